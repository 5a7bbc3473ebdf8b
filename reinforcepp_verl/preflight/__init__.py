"""Checks a configuration before anything is started, for errors that would otherwise occur minutes later or silently.

Every problem is one line with the dotted key, its value and the fix. Imports `plugin`, `sizing`, `checkpoints`, `data`,
`config`, `algorithm` and `common`.
"""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.config.preflight_options import MISSING_FILES
from reinforcepp_verl.preflight import (
    agent_tools,
    algorithm_settings,
    answer_format,
    attention,
    batch_sizes,
    choices,
    data_files,
    engines,
    gpu_memory,
    group_filter,
    guard_limits,
    legacy_keys,
    loss_settings,
    machine,
    model_files,
    plugin_installed,
    prompt_lengths,
    references,
    registered_names,
    reward_function,
    reward_import,
    run_settings,
    sampling,
    secrets,
    sequence_lengths,
    start_checkpoint,
    step_scores,
    tokenizer_loading,
    tool_import,
    trackers,
    unknown_keys,
    value_types,
    verl_validation,
    warning_names,
    weight_bucket,
    yaml_files,
)
from reinforcepp_verl.preflight.findings import Check, Findings, PreflightWarning, silenced

# A stage runs only if those before it found no error: a misspelled key leaves a default in place, and complaints about
# that default would only hide the cause. Six checks import verl or transformers, which takes seconds, and only when a
# cheaper check cannot decide: the names, the sequence lengths, the tokenizer, the tools, the prompt lengths and verl's
# own validation.
STAGES: tuple[tuple[Check, ...], ...] = (
    (references.check,),
    (unknown_keys.check, legacy_keys.check, secrets.check, warning_names.check, machine.meant_for),
    (machine.platform_named,),
    (machine.counted,),
    (value_types.check,),
    (machine.at_hand,),
    (registered_names.check,),
    (
        *(value_types.grad_clip, algorithm_settings.check, batch_sizes.check, run_settings.check, machine.check),
        *(machine.accelerator, plugin_installed.check, data_files.check, model_files.check, reward_function.check),
        *(guard_limits.check, sampling.check, loss_settings.check, group_filter.check, trackers.check),
        *(choices.check, yaml_files.check, agent_tools.check),
    ),
    (engines.check, answer_format.check, reward_import.check, step_scores.check, attention.check),
    (start_checkpoint.check,),
    (sequence_lengths.check,),
    (tokenizer_loading.check,),
    (tool_import.check,),
    (gpu_memory.check, weight_bucket.check),
    (prompt_lengths.check,),
    (verl_validation.check,),
)
OF_THIS_MACHINE: tuple[Check, ...] = (machine.platform_named, machine.at_hand, machine.accelerator, attention.check)


def examine(config: DictConfig, *, other_machine: bool = False, files_may_be_missing: bool = False) -> Findings:
    """Return the errors and warnings of `config`; without an error the training can start.

    `other_machine`: the configuration is for another machine, so this one is not compared with it.
    `files_may_be_missing`: nothing is started, so missing data and models are warnings instead of errors.
    """
    errors: list[str] = []
    warnings: list[PreflightWarning] = []
    for stage in STAGES:
        checks = [check for check in stage if not (other_machine and check in OF_THIS_MACHINE)]
        for found in (found for check in checks for found in check(config)):
            if isinstance(found, str):
                errors.append(found)
            elif found.name == MISSING_FILES and not files_may_be_missing:
                errors.append(found.message)
            else:
                warnings.append(found)
        if errors:
            break
    return Findings(errors, silenced(config, warnings))
