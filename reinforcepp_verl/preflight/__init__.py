"""Checks a configuration before anything is started: `problems` finds what would go wrong minutes later, or silently.

Every problem is one line with the dotted key, its value and the fix.
"""

from __future__ import annotations

from collections.abc import Callable

from omegaconf import DictConfig

from reinforcepp_verl.preflight import (
    algorithm,
    batches,
    data,
    keys,
    legacy,
    model,
    names,
    platform,
    plugin,
    references,
    reward,
    trainer,
    verl_validation,
)

Check = Callable[[DictConfig], list[str]]

# A stage runs only when the one before it found nothing: a misspelt key leaves a default in place, and complaints about
# that default would only hide the cause. The last two stages import verl, which takes seconds.
STAGES: tuple[tuple[Check, ...], ...] = (
    (references.check,),
    (keys.check, legacy.check),
    (
        *(algorithm.check, batches.check, trainer.check, platform.check, plugin.check),
        *(data.check, model.check, reward.check),
    ),
    (names.check,),
    (verl_validation.check,),
)


def problems(config: DictConfig) -> list[str]:
    """Return everything that is wrong with `config`, one line each; an empty list means that training can start."""
    for stage in STAGES:
        found = [problem for check in stage for problem in check(config)]
        if found:
            return found
    return []
