"""The data files: existing, readable, and with the columns and rows that verl needs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.common.wording import did_you_mean
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.preflight_options import MISSING_FILES
from reinforcepp_verl.config.reading import is_count, value
from reinforcepp_verl.data.sources import SOURCES
from reinforcepp_verl.preflight.data_rows import Needed, faults
from reinforcepp_verl.preflight.data_table import Table, UnreadableTableError, read
from reinforcepp_verl.preflight.data_types import disagreements
from reinforcepp_verl.preflight.findings import Found, PreflightWarning
from reinforcepp_verl.preflight.reward_function import GYM_REWARD, OUR_REWARDS
from reinforcepp_verl.tasks import GENERATED

PREPARED_FOLDERS = (*GENERATED, *SOURCES)


def check(config: DictConfig) -> Found:
    """Check the files of both splits, then whether the training rows suffice for one batch and all steps."""
    train_problems, train_rows = _split(config, keys.TRAIN_FILES)
    val_problems, _ = _split(config, keys.VAL_FILES)
    errors = [problem for problem in train_problems if isinstance(problem, str)]
    return train_problems + val_problems + ([] if errors else enough_rows(config, train_rows))


def files_of(config: DictConfig, key: str) -> list[Any]:
    """Return the files of a split, as they are given."""
    given = value(config, key)
    return list(given) if OmegaConf.is_list(given) else [given]


def _split(config: DictConfig, key: str) -> tuple[list[str | PreflightWarning], int | None]:
    """Return the problems of a split's files and its number of rows, None if a file is not on this machine."""
    files = files_of(config, key)
    if not files or not all(isinstance(file, str) and file for file in files):
        return [f"{key} is {value(config, key)}: set it to a .parquet, .json or .jsonl file, or a list of them"], None
    if any("://" in file for file in files):
        return [], None
    problems: list[str | PreflightWarning] = []
    tables: list[Table] = []
    rows = 0
    for file in files:
        if file.startswith("~"):
            problems.append(f"{key}: verl does not expand the ~ of {file}; write {os.path.expanduser(file)}")
            continue
        try:
            tables.append(read(Path(file)))
            found, count = _content(config, f"{key}: {file}", tables[-1])
        except FileNotFoundError:
            problems.append(PreflightWarning(MISSING_FILES, f"{key}: no such file: {file}; {_how_to_make(file, key)}"))
        except UnreadableTableError as error:
            problems.append(f"{key}: {file} {error}; write it again, or set {key} to another file")
        else:
            problems += found
            rows += count
    if len(tables) < len(files):
        return problems, None
    return problems + [f"{key}: {problem}" for problem in disagreements(tables)], rows


def _how_to_make(file: str, key: str) -> str:
    if (name := Path(file).parent.name) in PREPARED_FOLDERS:
        return f"run `reinforcepp prepare {name}`"
    return f"create it, or set {key} to an existing file"


def _content(config: DictConfig, file: str, table: Table) -> tuple[Found, int]:
    """Return the problems of a file and its number of rows."""
    columns = list(table.types)
    if value(config, keys.CUSTOM_CLS_PATH):
        return [], sum(len(batch) for batch in table.batches(columns[:1]))
    if missing := _missing_columns(config, file, columns):
        return missing, 0
    reward = value(config, keys.REWARD_FUNCTION_PATH)
    needed = Needed(
        value(config, keys.PROMPT_KEY),
        value(config, keys.REWARD_FN_KEY),
        ground_truth=scored_by_function(config),
        # Some tasks of reasoning-gym name no right answer; their verifiers read the entry.
        text_in_ground_truth=not reward or (str(reward).startswith(OUR_REWARDS) and reward != GYM_REWARD),
    )
    return faults(table, needed, file)


def _missing_columns(config: DictConfig, file: str, columns: Sequence[str]) -> list[str]:
    settings = {key: value(config, key) for key in (keys.PROMPT_KEY, keys.REWARD_FN_KEY)}
    return [
        f"{file} has no column {column}{did_you_mean(column, columns)}; "
        f"add it, or set {setting} to one of {', '.join(columns)}"
        for setting, column in settings.items()
        if column not in columns
    ]


def scored_by_function(config: DictConfig) -> bool:
    """Return True if the reward is a function of answer and ground truth."""
    built_in = value(config, keys.REWARD_MANAGER_SOURCE) == "register"
    return built_in and not value(config, keys.REWARD_MODEL_ENABLE)


def enough_rows(config: DictConfig, rows: int | None) -> list[str]:
    batch, limit = value(config, keys.TRAIN_BATCH_SIZE), value(config, keys.TRAIN_MAX_SAMPLES)
    if rows is None or not is_count(batch):
        return []
    rows = min(rows, limit) if is_count(limit) else rows
    if rows >= batch:
        return _enough_epochs(config, rows // batch)
    return [
        f"{keys.TRAIN_BATCH_SIZE} is {batch}, but {keys.TRAIN_FILES} has only {rows} rows, which is not enough for one "
        f"step; set {keys.TRAIN_BATCH_SIZE} to {rows} or less"
    ]


def _enough_epochs(config: DictConfig, steps_per_epoch: int) -> list[str]:
    """Check that the epochs do not end before the steps: verl would stop early, without a final validation."""
    steps, epochs = value(config, keys.TOTAL_TRAINING_STEPS), value(config, keys.TOTAL_EPOCHS)
    if not (is_count(steps) and is_count(epochs)) or epochs * steps_per_epoch >= steps:
        return []
    # A custom dataset may have a different number of rows than its files.
    if value(config, keys.VAL_ONLY) or value(config, keys.CUSTOM_CLS_PATH):
        return []
    return [
        f"{keys.TOTAL_TRAINING_STEPS} is {steps}, but {keys.TOTAL_EPOCHS}={epochs} of {steps_per_epoch} steps each end "
        f"at step {epochs * steps_per_epoch}; set {keys.TOTAL_EPOCHS}={-(-steps // steps_per_epoch)}"
    ]
