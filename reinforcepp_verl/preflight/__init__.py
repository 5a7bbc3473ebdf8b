"""Checks a configuration before anything is started, for errors that would otherwise occur minutes later or silently.

Every problem is one line with the dotted key, its value and the fix.
"""

from __future__ import annotations

from collections.abc import Callable

from omegaconf import DictConfig

from reinforcepp_verl.preflight import (
    algorithm_settings,
    batch_sizes,
    data_files,
    engines,
    gpu_memory,
    guard_limits,
    legacy_keys,
    machine,
    model_files,
    plugin_installed,
    references,
    registered_names,
    reward_function,
    run_settings,
    secrets,
    sequence_lengths,
    start_checkpoint,
    unknown_keys,
    verl_validation,
)

Check = Callable[[DictConfig], list[str]]

# A stage runs only when the one before it found nothing: a misspelt key leaves a default in place, and complaints about
# that default would only hide the cause. The names import verl, the sizes of the model transformers: seconds.
STAGES: tuple[tuple[Check, ...], ...] = (
    (references.check,),
    (unknown_keys.check, legacy_keys.check, secrets.check),
    (machine.meant_for,),
    (registered_names.check,),
    (
        *(algorithm_settings.check, batch_sizes.check, run_settings.check, machine.check, machine.accelerator),
        *(plugin_installed.check, data_files.check, model_files.check, reward_function.check, guard_limits.check),
    ),
    (engines.check,),
    (start_checkpoint.check,),
    (sequence_lengths.check,),
    (gpu_memory.check,),
    (verl_validation.check,),
)


def problems(config: DictConfig, *, elsewhere: bool = False) -> list[str]:
    """Return all problems of `config`, one line each; an empty list means that training can start.

    `elsewhere`: the configuration is for another machine, so this one need not be like it.
    """
    for stage in STAGES:
        checks = [check for check in stage if not (elsewhere and check is machine.accelerator)]
        found = [problem for check in checks for problem in check(config)]
        if found:
            return found
    return []
