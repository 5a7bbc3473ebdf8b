"""Values of the wrong type and numbers out of range; verl checks neither for most keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from omegaconf import DictConfig, ListConfig

from reinforcepp_verl.common.wording import shown
from reinforcepp_verl.config import keys, schema
from reinforcepp_verl.config.reading import is_number, value
from reinforcepp_verl.config.schema import base_value
from reinforcepp_verl.preflight.value_kinds import BOOLEAN, INTEGER, Kind, changed_kinds
from reinforcepp_verl.preflight.value_ranges import LARGEST, Range, range_of


def check(config: DictConfig) -> list[str]:
    """Check every number, every list of numbers, and every true or false."""
    given = {key: (value(config, key), kind) for key, kind in changed_kinds(config)}
    wrong = {key: content for key, (content, kind) in given.items() if not _is_valid(key, content, kind)}
    return [_message(key, content, given[key][1]) for key, content in wrong.items() if not _inherited(key, wrong)]


def _inherited(key: str, wrong: Mapping[str, object]) -> bool:
    """Return True if the base refers to another wrong key: a saved configuration has copies instead of references."""
    source = schema.reference(key)
    return source is not None and source in wrong and repr(wrong[source]) == repr(wrong[key])


def grad_clip(config: DictConfig) -> list[str]:
    """Check that the gradient's clip is set where verl reads it."""
    given, default = value(config, keys.GRAD_CLIP), base_value(keys.GRAD_CLIP)
    if given in (None, default):
        return []
    return [
        f"{keys.GRAD_CLIP} is {given!r}: verl does not read it; set {keys.ACTOR_CLIP_GRAD} instead, and "
        f"{keys.GRAD_CLIP}={default}"
    ]


def _is_valid(key: str, given: object, kind: Kind) -> bool:
    if given is None:
        return kind.null or kind.name == BOOLEAN
    if not kind.listed:
        return _is_valid_element(given, kind, _range(key))
    if not isinstance(given, ListConfig) or len(given) != (kind.length or len(given)):
        return False
    return all(_is_valid_element(element, kind, _range(key)) for element in given)


def _is_valid_element(given: object, kind: Kind, valid: Range) -> bool:
    if kind.name == BOOLEAN:
        return isinstance(given, bool) or given in (0, 1)
    if isinstance(given, str):
        return kind.or_text
    return is_number(given) and (kind.name != INTEGER or isinstance(given, int)) and valid.contains(given)


def _range(key: str) -> Range:
    return range_of(key) or Range(key)


def _message(key: str, given: object, kind: Kind) -> str:
    start = f"{key} is {shown(given)}: "
    if kind.name == BOOLEAN:
        return f"{start}it must be true or false; set {key}={str(bool(base_value(key))).lower()}"
    valid = _range(key)
    if isinstance(given, int) and given > LARGEST:
        valid = replace(valid, high=min(valid.high, LARGEST))
    wanted = valid.described(whole=kind.name == INTEGER)
    if kind.listed:
        wanted = f"a list{f' of {kind.length}' if kind.length else ''}, each {wanted}"
    if not kind.or_text and not kind.listed and isinstance(given, str) and _reads_as_number(given):
        return f"{start}it is text, but must be {wanted}; remove the quotes"
    if valid.fix is None:
        return f"{start}set {key} to {wanted}{valid.note}{', or to null' if kind.null else ''}"
    return f"{start}it must be {wanted}; set {key}={valid.fix}"


def _reads_as_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
