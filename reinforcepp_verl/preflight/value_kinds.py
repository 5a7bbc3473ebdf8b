"""The kind of value that each key takes, from the annotations of verl's dataclasses and the values of the base."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from omegaconf import DictConfig, ListConfig

from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.dataclass_source import fields_of
from reinforcepp_verl.config.guard_options import GuardOptions
from reinforcepp_verl.config.hardware_options import HardwareOptions
from reinforcepp_verl.config.reading import FSDP_ENGINE, value
from reinforcepp_verl.config.sampler_options import SamplerOptions
from reinforcepp_verl.config.schema import Tree, as_tree, base
from reinforcepp_verl.preflight.legacy_keys import LEGACY_NODES

BOOLEAN, INTEGER, NUMBER = "bool", "int", "float"
NAMES = (BOOLEAN, INTEGER, NUMBER)


@dataclass(frozen=True)
class Kind:
    """The type of a value. `listed`: a list, of `length` if that is fixed; `or_text`: or text, which verl parses."""

    name: str
    null: bool = False
    listed: bool = False
    length: int | None = None
    or_text: bool = False


# Read elsewhere: passed on as they are, or with options of their own.
FREE = (
    *("*.engine_kwargs", "*.override_config", "*.runtime_env", keys.REWARD_KWARGS),
    *(keys.LOSS_OPTIONS, keys.REWARD_ERRORS, keys.PREFLIGHT, "*.turbo_config", *LEGACY_NODES),
)
# Nodes without `_target_` that verl converts to these classes.
VERL_NODES = {
    "*.rollout_correction": "verl.trainer.config.RolloutCorrectionConfig",
    "*.actor.qat": "verl.utils.qat.QATConfig",
    "*.disaggregation": "verl.workers.config.DisaggregationConfig",
}
OWN_NODES: dict[str, type] = {
    keys.REINFORCEPP: ReinforceppOptions,
    keys.GUARDS: GuardOptions,
    keys.HARDWARE: HardwareOptions,
    keys.SAMPLER_KWARGS: SamplerOptions,
}
# Keys of no class that are null in the base, or whose value there looks like another kind.
OTHERS = {
    **dict.fromkeys(("*.gen_batch_size", "*.val_batch_size", keys.DATA_SEED, "*_ckpt_to_keep"), "int | None"),
    **dict.fromkeys((keys.TOTAL_TRAINING_STEPS, "*.sampler.max_off_policy_threshold"), "int | None"),
    **dict.fromkeys((keys.RAY_NUM_CPUS, "*.ray_init.num_gpus"), "float | None"),
    **dict.fromkeys(("*.esi_redundant_time", "*.ray_wait_register_center_timeout", "*.lora.alpha"), "float"),
    "skip.*.steps": "list[int]",
}
# Annotated without Optional, but verl treats null as unset.
NULL_TOO = ("*.fsdp_size", "*.max_num_seqs", "*.clip_ratio_c", "*.clip_ratio_low", "*.clip_ratio_high", "*.rollout_n")


def changed_kinds(config: DictConfig) -> Iterator[tuple[str, Kind]]:
    """Yield every key that takes a number, a list of numbers, or true or false, and whose value is not the base's."""
    known = base(value(config, keys.MODEL_ENGINE) or FSDP_ENGINE)
    yield from _walk(as_tree(config), as_tree(known), known, "")


def _walk(tree: Tree, unchanged: Tree, known: DictConfig, prefix: str) -> Iterator[tuple[str, Kind]]:
    annotations: dict[str, str] | None = None
    for name, content in tree.items():
        key, before = f"{prefix}{name}", unchanged.get(name)
        if (name in unchanged and _same(content, before)) or _matches(key, FREE):
            continue
        annotations = _annotations(prefix.rstrip("."), tree) if annotations is None else annotations
        if kind := _kind(key, annotations.get(str(name)), known):
            yield key, kind
        elif isinstance(content, dict):
            yield from _walk(content, before if isinstance(before, dict) else {}, known, f"{key}.")


def _same(one: object, other: object) -> bool:
    """Compare values and types: 1 is not true and not 1.0."""
    return type(one) is type(other) and repr(one) == repr(other)


def _matches(key: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(key, pattern) for pattern in patterns)


def _annotations(node: str, tree: Tree) -> dict[str, str]:
    """Return the annotations of a node's class."""
    if node in OWN_NODES:
        return {field.name: str(field.type) for field in dataclasses.fields(OWN_NODES[node])}
    named = next((target for pattern, target in VERL_NODES.items() if fnmatch(node, pattern)), None)
    target = str(tree.get("_target_") or named or "")
    return {
        name: f"{field.annotation} | None" if field.null_by_default else field.annotation
        for name, field in fields_of(target).items()
    }


def _kind(key: str, annotation: str | None, known: DictConfig) -> Kind | None:
    default = value(known, key)
    annotation = annotation or next((text for pattern, text in OTHERS.items() if fnmatch(key, pattern)), None)
    kind = _of_value(default) if annotation is None else of_annotation(annotation)
    if kind is None or not (default is None or _matches(key, NULL_TOO)):
        return kind
    # Without a class, null in the base says nothing about the kind; with one, that null is valid.
    return dataclasses.replace(kind, null=True)


def _of_value(default: Any) -> Kind | None:
    if isinstance(default, ListConfig):
        return dataclasses.replace(kind, listed=True) if default and (kind := _of_value(default[0])) else None
    return Kind(type(default).__name__) if type(default).__name__ in NAMES else None


def of_annotation(text: str) -> Kind | None:
    """Return the kind of an annotation, None for text, mappings and classes."""
    parts = {part.strip() for part in re.sub(r"\b(Optional|Union)\[(.*)\]", r"\2 | None", text).split("|")}
    null, or_text = "None" in parts, "str" in parts
    rest = sorted(parts - {"None", "str"})
    if len(rest) != 1:
        return None
    inner = re.fullmatch(r"(list|tuple|List|Tuple)\[(bool|int|float)\b(.*)\]", rest[0])
    if inner is None:
        return Kind(rest[0], null, or_text=or_text) if rest[0] in NAMES else None
    length = inner[3].count(",") + 1 if inner[1].lower() == "tuple" and "..." not in inner[3] else None
    return Kind(inner[2], null, listed=True, length=length)
