"""Checks a configuration before anything is started: `problems` finds what would go wrong minutes later, or silently.

Every problem is one line with the dotted key, its value and the fix.
"""

from __future__ import annotations

from collections.abc import Callable

from omegaconf import DictConfig

from reinforcepp_verl.preflight import (
    algorithm,
    batches,
    checkpoint,
    data,
    engines,
    guards,
    keys,
    legacy,
    lengths,
    memory,
    model,
    names,
    platform,
    plugin,
    references,
    reward,
    secrets,
    trainer,
    verl_validation,
)

Check = Callable[[DictConfig], list[str]]

# A stage runs only when the one before it found nothing: a misspelt key leaves a default in place, and complaints about
# that default would only hide the cause. Sizes of the model import transformers, the last two stages verl: seconds.
STAGES: tuple[tuple[Check, ...], ...] = (
    (references.check,),
    (keys.check, legacy.check, secrets.check),
    (
        *(algorithm.check, batches.check, trainer.check, platform.check, platform.accelerator),
        *(plugin.check, data.check, model.check, reward.check, guards.check),
    ),
    (engines.check,),
    (checkpoint.check,),
    (lengths.check,),
    (memory.check,),
    (names.check,),
    (verl_validation.check,),
)


def problems(config: DictConfig, *, elsewhere: bool = False) -> list[str]:
    """Return everything that is wrong with `config`, one line each; an empty list means that training can start.

    `elsewhere`: the configuration is for another machine, so this one needs no accelerator.
    """
    for stage in STAGES:
        checks = [check for check in stage if not (elsewhere and check is platform.accelerator)]
        found = [problem for check in checks for problem in check(config)]
        if found:
            return found
    return []
