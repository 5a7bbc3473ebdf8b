r"""The form in which the prompts ask for an answer, and those that the reward reads: `\boxed{}`, `####` and others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.preflight_options import ANSWER_FORMAT
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.preflight.data_files import files_of, scored_by_function
from reinforcepp_verl.preflight.data_table import UnreadableTableError, read
from reinforcepp_verl.preflight.findings import Found, PreflightWarning
from reinforcepp_verl.preflight.reward_function import GYM_REWARD, MATH_REWARD, OUR_REWARDS
from reinforcepp_verl.rewards.gym_package import DATA_SOURCE_PREFIX
from reinforcepp_verl.sizing.model_size import model_folder

MARKS = {r"\boxed": "boxed", "####": "hashes", "Answer:": "answer_line", "<answer>": "answer_tags"}
"""What a prompt says to ask for each form, and the template of `reinforcepp prepare` that says it."""
READ_BY_MATH = (r"\boxed", "####", "Answer:")
READ_BY_GYM = ("<answer>",)
# verl/utils/reward_score/__init__.py; math_dapo reads "Answer:" and otherwise a box.
READ_BY_VERL = {
    "openai/gsm8k": ("####",),
    **dict.fromkeys(("lighteval/MATH", "DigitalLearningGmbH/MATH-lighteval", "HuggingFaceH4/MATH-500"), (r"\boxed",)),
    **dict.fromkeys(("math_dapo", "math", "math_dapo_reasoning", "aime"), ("Answer:", r"\boxed")),
}
TEMPLATE_FILES = ("chat_template.jinja", "tokenizer_config.json")


def check(config: DictConfig) -> Found:
    """Compare the first prompt of each file with what its reward reads."""
    if value(config, keys.CUSTOM_CLS_PATH) or not scored_by_function(config):
        return []
    return [found for key in (keys.TRAIN_FILES, keys.VAL_FILES) for found in _files(config, key)]


def _files(config: DictConfig, key: str) -> Iterator[str | PreflightWarning]:
    columns = value(config, keys.PROMPT_KEY), value(config, keys.REWARD_FN_KEY)
    for file in files_of(config, key):
        try:
            row = read(Path(file)).first_row(columns)
        except (FileNotFoundError, UnreadableTableError):  # data_files reports them
            continue
        if wrong := _wrong_reward(config, str(row[columns[1]])):
            yield f"{key}: {file}: {wrong}"
        elif read_marks := _read_marks(config, row):
            yield from _compare(config, f"{key}: {file}", row, read_marks)


def _wrong_reward(config: DictConfig, source: str) -> str:
    """Return what is wrong if a row of reasoning-gym is scored by another reward, or the other way around."""
    path = value(config, keys.REWARD_FUNCTION_PATH)
    of_gym = source.startswith(DATA_SOURCE_PREFIX)
    if of_gym and (not path or (path.startswith(OUR_REWARDS) and path != GYM_REWARD)):
        options = f" '~{keys.REWARD_KWARGS}'" if value(config, keys.REWARD_KWARGS) else ""
        return (
            f"its first row is from {source}, whose verifier the reward does not call; use "
            f"{keys.REWARD_FUNCTION_PATH}={GYM_REWARD}{options}"
        )
    if path == GYM_REWARD and not of_gym:
        return (
            f"its first row is from {source}, but {keys.REWARD_FUNCTION_PATH} is {path}, which scores only rows that "
            "`reinforcepp prepare reasoning_gym` writes; use another reward function"
        )
    return ""


def _compare(
    config: DictConfig, file: str, row: dict[str, Any], read_marks: tuple[str, ...]
) -> Iterator[str | PreflightWarning]:
    asked = [mark for mark in MARKS if mark in _prompt(config, row)]
    if set(asked) & set(read_marks):
        return
    templates = " or ".join(f"--template {MARKS[mark]}" for mark in read_marks)
    reads = f"the reward reads {' or '.join(read_marks)}"
    if asked:
        other = "" if read_marks == READ_BY_GYM else ", or use +reward_function=math, which reads all forms"
        yield (
            f"{file}: its first prompt asks for the answer after {asked[0]}, but {reads}: every answer would be wrong; "
            f"prepare it with {templates}{other}"
        )
    else:
        message = f"{file}: its first prompt names no form for the answer, and {reads}; prepare it with {templates}"
        yield PreflightWarning(ANSWER_FORMAT, message)


def _prompt(config: DictConfig, row: dict[str, Any]) -> str:
    """Return the texts that the model reads: the messages, and the chat template, which may add a system message."""
    messages = row[value(config, keys.PROMPT_KEY)]
    folder = model_folder(value(config, keys.TOKENIZER_PATH) or value(config, keys.MODEL_PATH))
    files = [folder / name for name in TEMPLATE_FILES] if folder else []
    templates = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
    texts = [str(message["content"]) for message in messages]
    # In JSON a backslash is doubled.
    return "\n".join((*texts, *(template.replace("\\\\", "\\") for template in templates)))


def _read_marks(config: DictConfig, row: dict[str, Any]) -> tuple[str, ...]:
    """Return the forms that the reward of a row reads, () if they are not known or it reads any text."""
    path = value(config, keys.REWARD_FUNCTION_PATH)
    if path == MATH_REWARD:
        return () if value(config, f"{keys.REWARD_KWARGS}.last_number") else READ_BY_MATH
    if path == GYM_REWARD:
        return () if value(config, f"{keys.REWARD_KWARGS}.whole_text") else READ_BY_GYM
    if path:
        return ()
    source = str(row[value(config, keys.REWARD_FN_KEY)])
    return READ_BY_VERL.get("aime" if source.startswith("aime") else source, ())
