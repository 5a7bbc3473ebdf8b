"""How many tokens prompts have: an upper bound from their bytes, and the number that the run's tokenizer gives."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.compute as pc
from jinja2.sandbox import ImmutableSandboxedEnvironment

from reinforcepp_verl.common.wording import first_line

Messages = Sequence[Mapping[str, Any]]
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
ONE_TOKEN = "x"
# Unicode normalization makes text at most 11 times as long and leaves ASCII alone (UAX 15). A text whose bytes exceed
# its characters by n has at most 2 n bytes that are not ASCII.
PER_EXTRA_BYTE = 2 * (11 - 1)


class UnusableTokenizerError(ValueError):
    """The tokenizer cannot be loaded."""


class TemplateFailsError(ValueError):
    """The chat template cannot render the prompt at `position`."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


class Bound:
    """At most this many tokens, without the tokenizer, whose import takes seconds.

    Assumes that each token covers at least one byte, as in character and byte-level tokenizers and those with byte
    fallback, and that the template adds the same text to all prompts with the same roles.
    """

    def __init__(self, template: str, settings: Mapping[str, Any]) -> None:
        self._source = template
        self._settings = {**dict.fromkeys(SPECIAL_TOKENS, ONE_TOKEN), **settings}
        self._added: dict[tuple[str, ...], int] = {}

    def above(self, prompts: pa.ListArray, limit: int) -> list[int]:
        """Return the positions of the prompts that may have more than `limit` tokens.

        Raises jinja2.TemplateError for a template that needs what transformers adds to Jinja.
        """
        messages = prompts.flatten()
        content = messages.field(messages.type.get_field_index("content"))
        size = pc.binary_length(content)
        tokens = pc.add(size, pc.multiply(pc.subtract(size, pc.utf8_length(content)), PER_EXTRA_BYTE)).to_pylist()
        roles = messages.field(messages.type.get_field_index("role")).to_pylist()
        found, start = [], 0
        for number, count in enumerate(pc.list_value_length(prompts).to_pylist()):
            end = start + count
            if sum(tokens[start:end]) + self._by_template(tuple(roles[start:end])) > limit:
                found.append(number)
            start = end
        return found

    def _by_template(self, roles: tuple[str, ...]) -> int:
        if roles not in self._added:
            messages = [{"role": role, "content": "x"} for role in roles]
            text = self._template.render(messages=messages, add_generation_prompt=True, **self._settings)
            self._added[roles] = len(text.encode()) * (1 if text.isascii() else 1 + PER_EXTRA_BYTE)
        return self._added[roles]

    @functools.cached_property
    def _template(self) -> jinja2.Template:
        return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(self._source)


def is_plain(prompts: pa.Array) -> bool:
    """Return True for prompts of role and text only, which `Bound` can measure."""
    if not pa.types.is_list(prompts.type) or not pa.types.is_struct(prompts.type.value_type):
        return False
    return {field.name: field.type for field in prompts.type.value_type} == dict.fromkeys(
        ("role", "content"), pa.string()
    )


def template_of(folder: Path) -> str | None:
    """Return the tokenizer's chat template, None if it has several or none."""
    if (file := folder / "chat_template.jinja").is_file():
        return file.read_text(encoding="utf-8")
    template = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    return template if isinstance(template, str) else None


class Tokenizer:
    """The run's tokenizer, which renders and tokenizes like verl's `RLHFDataset`."""

    def __init__(self, folder: Path, template: str | None, settings: Mapping[str, Any]) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnusableTokenizerError(f"the tokenizer in {folder} cannot be loaded ({first_line(error)})") from None
        self._settings = {"add_generation_prompt": True, **settings}
        if template is not None:
            self._tokenizer.chat_template = template

    def lengths(self, prompts: Sequence[Messages]) -> list[int]:
        """Return the number of tokens of each prompt; raises TemplateFailsError for one that cannot be rendered."""
        texts = [self._text(number, prompt) for number, prompt in enumerate(prompts)]
        return [len(ids) for ids in self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]

    def _text(self, number: int, prompt: Messages) -> str:
        try:
            return str(self._tokenizer.apply_chat_template(prompt, **self._settings, tokenize=False))
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise TemplateFailsError(number, first_line(error)) from None
