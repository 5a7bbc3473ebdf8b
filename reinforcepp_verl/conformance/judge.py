"""Calls an implementation with every case and compares what it returns with what is expected."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reinforcepp_verl.conformance.case_files import Case, Expected

Implementation = Callable[[dict[str, Any]], dict[str, Any]]
TENSORS = {
    "token_level_scores": torch.float64,
    "response_mask": torch.int64,
    "group": torch.int64,
    "session": torch.int64,
    "old_log_prob": torch.float64,
    "ref_log_prob": torch.float64,
    "log_prob": torch.float64,
    "advantages": torch.float64,
}


class NotCallableError(ValueError):
    """`--call` does not name a function."""


@dataclass(frozen=True)
class Verdict:
    """How one case went."""

    case: Case
    outcome: str
    """`agrees`, `deviates`, `unsupported` (NotImplementedError), `error` (any other exception)."""
    returned: Expected
    """Tensors as nested lists; empty unless it agrees or deviates."""
    detail: str = ""
    """The first value that differs, or the exception."""


def load_function(text: str) -> Implementation:
    """Import `module:function`, or `path/to/file.py:function`.

    Raises:
        NotCallableError: there is no such module, file or function, with the fix in the message
    """
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise NotCallableError(f"--call {text}: write module:function, or path/to/file.py:function")
    try:
        module = _module_of_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except NotCallableError:
        raise
    # A module may raise anything on import; that must not look like a deviation.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise NotCallableError(f"--call {text}: cannot import {place} ({reason}); correct or install it") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise NotCallableError(f"--call {text}: {place} has no function {name}")
    return function


def _module_of_file(path: Path) -> Any:
    if not path.is_file():
        raise NotCallableError(f"--call {path}: no such file")
    # Not under its own name, which a module in use may have.
    spec = importlib.util.spec_from_file_location(f"called_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise NotCallableError(f"--call {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[spec.name] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def call_argument(case: Case) -> dict[str, Any]:
    """Return what an implementation is called with: inputs as tensors, and all options."""
    tensors = {key: torch.tensor(case.inputs[key], dtype=dtype) for key, dtype in TENSORS.items() if key in case.inputs}
    if "log_prob" in tensors:
        tensors["log_prob"].requires_grad_()
    others = {key: copy.deepcopy(value) for key, value in case.inputs.items() if key not in tensors}
    absent = {"ref_log_prob": None, "mini_batches": None, "micro_batches": None}
    return {"name": case.name, "kind": case.kind, **absent, **copy.deepcopy(case.options), **tensors, **others}


def judge(case: Case, implementation: Implementation) -> Verdict:
    """Call the implementation with a case."""
    argument = call_argument(case)
    try:
        returned = _as_lists(case, argument, implementation(argument))
    except NotImplementedError as error:
        return Verdict(case, "unsupported", {}, str(error))
    # An implementation under test may raise anything, and one case must not hide the others.
    except Exception as error:
        return Verdict(case, "error", {}, f"{type(error).__name__}: {error}".splitlines()[0])
    difference = first_difference(returned, case.expected, case.tolerance)
    return Verdict(case, "deviates" if difference else "agrees", returned, difference)


def _as_lists(case: Case, argument: dict[str, Any], returned: dict[str, Any]) -> Expected:
    """Check what was returned, and take the gradient of a loss."""
    if not isinstance(returned, dict):
        raise TypeError(f"it returned {type(returned).__name__}, not a dict")
    needed = "advantages" if case.kind == "advantages" else "loss"
    if needed not in returned:
        raise KeyError(f"the dict has no {needed}")
    if case.kind == "policy_loss" and "grad" not in returned:
        returned = {**returned, "grad": torch.autograd.grad(returned["loss"], argument["log_prob"])[0]}
    lists = {}
    for key in case.expected:
        if key in returned:
            value = torch.as_tensor(returned[key]).detach().double().cpu()
            wanted = () if key == "loss" else tuple(argument["response_mask"].shape)
            if value.shape != wanted:
                raise ValueError(f"{key} has shape {tuple(value.shape)}, not {wanted}")
            lists[key] = value.tolist()
    return lists


def first_difference(found: Expected, expected: Expected, tolerance: float) -> str:
    """Describe the first value that is not within the tolerance; empty if all are. Only keys of both are compared."""
    for key in expected:
        if key in found:
            for place, got, wanted in _pairs(found[key], expected[key]):
                if wanted is not None and not _close(got, wanted, tolerance):
                    return f"{key}{place} is {got:.6g}, expected {wanted:.6g}"
    return ""


def _pairs(found: Any, expected: Any, place: str = "") -> Sequence[tuple[str, float, float | None]]:
    if isinstance(expected, list):
        nested = enumerate(zip(found, expected, strict=True))
        return [leaf for index, pair in nested for leaf in _pairs(*pair, f"{place}[{index}]")]
    return [(place, found, expected)]


def _close(got: float | None, wanted: float, tolerance: float) -> bool:
    if got is None:
        return False
    return (math.isnan(got) and math.isnan(wanted)) or abs(got - wanted) <= tolerance * max(1.0, abs(wanted))
