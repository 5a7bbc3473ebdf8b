"""Finds what makes a YAML file unreadable or harmful, in one pass over its events: file, line number and fix."""

from __future__ import annotations

import codecs
import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 200_000
MAX_DEPTH = 40
TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep; remove levels"
MAX_NODES = 20_000
"""After the expansion of anchors; verl's own configuration has about a thousand."""
MAX_DIGITS = 100
NULLS = ("", "~", "null", "Null", "NULL")
PLAIN_TAG = re.compile(r"!|tag:yaml\.org,2002:(?:str|int|float|bool|null|seq|map)")
_NUMBER = re.compile(r"[-+]?[0-9][0-9a-fA-FxXobB_.:]*")


class UnsoundYamlError(ValueError):
    """The message is one line with the file and, where there is one, the line number."""


@dataclass
class _Node:
    """A mapping or sequence that is being read; `size` counts its values, with those of anchors expanded."""

    is_mapping: bool
    anchor: str | None
    size: int = 1
    keys: dict[str, int] = field(default_factory=dict)
    awaits_key: bool = True


def check(file: Path, *, is_mapping: bool = True) -> None:
    """Raise UnsoundYamlError for a file that is not one finite YAML document in UTF-8 without duplicate keys.

    `is_mapping`: it must hold keys and values, as configurations do.
    """
    _Reader(file, is_mapping).read()


def unsound(file: Path, error: yaml.MarkedYAMLError) -> UnsoundYamlError:
    """Return the error of the construction of values, which `check` does not do."""
    mark = error.problem_mark or error.context_mark
    return _Reader(file, is_mapping=True).error(mark.line if mark else None, f"{error.problem}; correct it")


def too_large(argument: str) -> str | None:
    """Return why an override on the command line is not parsed: depth or digits; None if neither is extreme."""
    depth = deepest = 0
    for character in argument:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        return f"it is nested {deepest} levels deep, at most {MAX_DEPTH} are allowed; remove brackets"
    if number := next((text for text in re.findall(r"\d+", argument) if len(text) > MAX_DIGITS), None):
        return f"it has a number of {len(number)} digits; write one of at most {MAX_DIGITS}"
    return None


class _Reader:
    def __init__(self, file: Path, is_mapping: bool) -> None:
        self._file, self._is_mapping = file, is_mapping
        self._open: list[_Node] = []
        self._sizes: dict[str, int] = {}
        self._anchors: dict[str, int] = {}
        self._documents = 0

    def read(self) -> None:
        text = self._text()
        try:
            for event in yaml.parse(text, Loader=_loader()):
                self._event(event)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            # libyaml puts an end that comes too early on the line after the last.
            last = len(text.splitlines()) - 1
            raise self.error(min(mark.line, last) if mark else None, _reason(text, error)) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position)
            raise self.error(line, f"a character that YAML does not allow ({error.reason}); remove it") from None

    def error(self, line: int | None, message: str) -> UnsoundYamlError:
        here = Path.cwd()
        file = self._file.relative_to(here) if self._file.is_relative_to(here) else self._file
        return UnsoundYamlError(f"{file}{'' if line is None else f', line {line + 1}'}: {message}")

    def _text(self) -> str:
        content = self._file.read_bytes()
        if len(content) > MAX_BYTES:
            raise self.error(None, f"it has {len(content)} bytes, at most {MAX_BYTES} are allowed; shorten it")
        if re.match(codecs.BOM_UTF8 + rb"[ \t]*#[ \t]*@package", content):
            raise self.error(0, "a byte order mark begins it, so Hydra does not see @package; save it without one")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start)
            raise self.error(line, "it is not text in UTF-8; save it in this encoding") from None

    def _event(self, event: yaml.Event) -> None:
        line = event.start_mark.line
        if (tag := getattr(event, "tag", None)) and not PLAIN_TAG.fullmatch(tag):
            raise self.error(line, f"the tag {tag} is not for configurations; remove it")
        if (anchor := getattr(event, "anchor", None)) and not isinstance(event, yaml.AliasEvent):
            self._name(anchor, line)
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self.error(line, "a second document begins (---); keep one")
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._open.pop()
            if done.anchor:
                self._sizes[done.anchor] = done.size
            self._add(done.size, line)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event.anchor, line)

    def _name(self, anchor: str, line: int) -> None:
        if first := self._anchors.get(anchor):
            raise self.error(line, f"the anchor &{anchor} is there twice, first in line {first}; rename one")
        self._anchors[anchor] = line + 1

    def _begin(self, event: Any, line: int) -> None:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if self._is_mapping and not self._open and not is_mapping:
            raise self.error(line, "it is a list; a configuration is a mapping of keys, such as `seed: 1`")
        if len(self._open) >= MAX_DEPTH:
            raise self.error(line, TOO_DEEP)
        if self._open and self._open[-1].is_mapping and self._open[-1].awaits_key:
            raise self.error(line, f"a key is a {'mapping' if is_mapping else 'list'}; write a name, or quote it")
        self._open.append(_Node(is_mapping, event.anchor))

    def _scalar(self, event: Any, line: int) -> None:
        if not self._open and (event.value or event.style):
            raise self.error(line, "this is not a mapping; write keys and values, such as `seed: 1`")
        if not event.style and len(event.value) > MAX_DIGITS and _NUMBER.fullmatch(event.value):
            raise self.error(line, f"a number of {len(event.value)} digits; write one of at most {MAX_DIGITS}")
        node = self._open[-1] if self._open else None
        if node and node.is_mapping and node.awaits_key:
            if event.value in node.keys:
                first = node.keys[event.value] + 1
                raise self.error(line, f"the key {event.value} is there twice, first in line {first}; remove one")
            if not event.style and event.value in NULLS:
                raise self.error(line, "a key is null; write a name, or quote it")
            node.keys[event.value] = line
        if event.anchor:
            self._sizes[event.anchor] = 1
        self._add(1, line)

    def _alias(self, anchor: str, line: int) -> None:
        if any(node.anchor == anchor for node in self._open):
            raise self.error(line, f"*{anchor} refers to a node that contains it; remove the reference")
        if anchor not in self._sizes:
            raise self.error(line, f"*{anchor} refers to no anchor above it; write &{anchor} where its value is")
        self._add(self._sizes[anchor], line)

    def _add(self, size: int, line: int) -> None:
        if not self._open:
            return
        node = self._open[-1]
        node.size += size
        node.awaits_key = not node.awaits_key
        if node.size > MAX_NODES:
            raise self.error(line, f"with its anchors expanded it has more than {MAX_NODES} values; use fewer anchors")


@functools.cache
def _loader() -> Any:
    # libyaml is ten times faster, but not every installation has it.
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _reason(text: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = dict(enumerate(text.splitlines())).get(mark.line, "") if mark else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "a tab indents it; use spaces"
    if "nesting" in str(error.problem):
        return TOO_DEEP
    parts = [" ".join(str(part).split()) for part in (error.context, error.problem) if part]
    return f"{', '.join(parts)}; correct the syntax"
