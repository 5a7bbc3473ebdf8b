"""Prompts that are longer than `data.max_prompt_length`: verl filters them out, or cuts off their beginning."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.preflight_options import LONG_PROMPTS
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.preflight.data_files import enough_rows, files_of
from reinforcepp_verl.preflight.data_table import Batch, read, rows_of
from reinforcepp_verl.preflight.findings import Found, PreflightWarning
from reinforcepp_verl.preflight.prompt_tokens import (
    Bound,
    TemplateFailsError,
    Tokenizer,
    UnusableTokenizerError,
    is_plain,
    template_of,
)
from reinforcepp_verl.sizing.model_size import model_folder

# What this check cannot render: tools, images and tokenizers with custom code.
OTHER_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
# verl removes them too.
NOT_FOR_THE_TEMPLATE = ("tokenize", "return_dict", "return_tensors")


class UnrenderedRowError(ValueError):
    """The chat template cannot render the prompt of a row."""


@dataclass
class Lengths:
    """The prompts of a split that are longer than the limit."""

    rows: int = 0
    too_long: int = 0
    longest: int = 0
    first: str = ""
    """File, row and length of the first."""


def check(config: DictConfig) -> Found:
    """Compare the prompts of both splits with the limit, if their files and the tokenizer are on this machine."""
    measured = _Measure.of(config)
    if measured is None:
        return []
    found: list[str | PreflightWarning] = []
    for key in (keys.TRAIN_FILES, keys.VAL_FILES):
        files = [Path(file) for file in files_of(config, key)]
        if not all(file.is_file() for file in files):
            continue
        try:
            lengths = measured.split(files)
        except UnrenderedRowError as error:
            return [*found, f"{key}: {error}; correct the row"]
        except UnusableTokenizerError as error:
            key = keys.TOKENIZER_PATH if value(config, keys.TOKENIZER_PATH) else keys.MODEL_PATH
            return [f"{key}: {error}; save it again"]
        if lengths.too_long:
            found += _long_prompt_findings(config, key, lengths)
    return found


def _long_prompt_findings(config: DictConfig, key: str, lengths: Lengths) -> Found:
    limit, cut = value(config, keys.MAX_PROMPT_LENGTH), value(config, keys.TRUNCATION)
    raised, filtered = f"{keys.MAX_PROMPT_LENGTH}={lengths.longest}", f"{keys.FILTER_OVERLONG_PROMPTS}=true"
    longer = f"{key}: {lengths.too_long} of {lengths.rows} prompts are longer than {keys.MAX_PROMPT_LENGTH}={limit}"
    if value(config, keys.FILTER_OVERLONG_PROMPTS):
        left = lengths.rows - lengths.too_long
        too_few = enough_rows(config, left) if key == keys.TRAIN_FILES else []
        if too_few or not left:
            reason = f" and {keys.FILTER_OVERLONG_PROMPTS} leaves {left}"
            return [f"{longer}{reason}; set {raised} to keep all{''.join(f', or: {problem}' for problem in too_few)}"]
        return [PreflightWarning(LONG_PROMPTS, f"{longer} and are left out; set {raised} to keep all")]
    if cut == "error":
        return [
            f"{keys.TRUNCATION} is error: {longer}, first {lengths.first}; set {raised}, {filtered}, or "
            f"{keys.TRUNCATION}=left to cut off their beginning"
        ]
    ignored = "" if cut == "left" else f" (verl ignores {keys.TRUNCATION}={cut})"
    message = f"{longer} and lose their beginning{ignored}; set {raised} to keep all of them, or {filtered}"
    return [PreflightWarning(LONG_PROMPTS, message)]


class _Measure:
    """Measures prompts; loads the tokenizer only for prompts whose bytes do not show that they are short enough."""

    def __init__(self, folder: Path, template: str | None, settings: dict[str, Any], column: str, limit: int) -> None:
        self._folder, self._template, self._settings = folder, template, settings
        self._column, self._limit = column, limit
        self._tokenizer: Tokenizer | None = None
        self._bound = _bound(folder, template, settings)

    @classmethod
    def of(cls, config: DictConfig) -> _Measure | None:
        """Return None if the tokenizer is elsewhere, or if more than text and template decides about the length."""
        folder = model_folder(value(config, keys.TOKENIZER_PATH) or value(config, keys.MODEL_PATH))
        elsewhere = (keys.CUSTOM_CLS_PATH, keys.TOOL_CONFIG_PATH, keys.FUNCTION_TOOL_PATH)
        if folder is None or any(value(config, key) for key in elsewhere):
            return None
        if not (folder / "tokenizer_config.json").is_file() or any(
            (folder / name).is_file() for name in OTHER_PROCESSORS
        ):
            return None
        if '"auto_map"' in (folder / "tokenizer_config.json").read_text(encoding="utf-8"):
            return None
        given = value(config, keys.APPLY_CHAT_TEMPLATE_KWARGS)
        settings: Any = OmegaConf.to_container(given, resolve=True) if OmegaConf.is_dict(given) else {}
        settings = {name: setting for name, setting in settings.items() if name not in NOT_FOR_THE_TEMPLATE}
        template = value(config, keys.CUSTOM_CHAT_TEMPLATE)
        return cls(folder, template, settings, value(config, keys.PROMPT_KEY), value(config, keys.MAX_PROMPT_LENGTH))

    def split(self, files: list[Path]) -> Lengths:
        """Measure the prompts of all files."""
        found = Lengths()
        for file in files:
            start = 0
            for batch in read(file).batches([self._column]):
                for row, length in self._candidates(file, start, batch):
                    if length > self._limit:
                        found.too_long += 1
                        found.longest = max(found.longest, length)
                        found.first = found.first or f"{file}, row {row} with {length} tokens"
                start += len(batch)
            found.rows += start
        return found

    def _candidates(self, file: Path, start: int, batch: Batch) -> Iterator[tuple[int, int]]:
        """Yield the row and length of each prompt that may be too long."""
        numbers, prompts = self._to_tokenize(batch)
        if not prompts:
            return
        if self._tokenizer is None:
            self._tokenizer = Tokenizer(self._folder, self._template, self._settings)
        try:
            lengths = self._tokenizer.lengths(prompts)
        except TemplateFailsError as error:
            row = start + numbers[error.position]
            raise UnrenderedRowError(f"{file}, row {row}: the chat template fails ({error})") from None
        yield from zip((start + number for number in numbers), lengths, strict=True)

    def _to_tokenize(self, batch: Batch) -> tuple[list[int], list[Any]]:
        if isinstance(batch, pa.Table) and self._bound is not None:
            prompts = batch.column(self._column).combine_chunks()
            # A template that needs more than plain Jinja gives no bound.
            with contextlib.suppress(jinja2.TemplateError):
                if is_plain(prompts):
                    numbers = self._bound.above(prompts, self._limit)
                    return numbers, prompts.take(pa.array(numbers, pa.int64())).to_pylist()
        prompts = [row[self._column] for row in rows_of(batch)]
        return list(range(len(prompts))), prompts


def _bound(folder: Path, template: str | None, settings: dict[str, Any]) -> Bound | None:
    text = template or template_of(folder)
    return None if text is None or "chat_template" in settings else Bound(text, settings)
