"""Finds the fewest choices that explain what an implementation returned.

An implementation is one set of choices. Each choice that is fixed, whatever the options of a case say, is a value of an
axis (`axes.py`). The search adds the one, two or three values that make the slow reference return what the
implementation returned in the most cases, until no more cases are explained.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from reinforcepp_verl.conformance.axes import AXES, Axis
from reinforcepp_verl.conformance.case_files import TEXTS, Case, Expected
from reinforcepp_verl.conformance.judge import Verdict, first_difference

Choices = Mapping[str, Any]
MOST_CHANGES_AT_ONCE = 3
PROBES = 4
"""Number of small unexplained cases of which a step of several changes must explain one, before it is tried on all."""


@dataclass(frozen=True)
class Deviation:
    """A choice of the implementation that is not the cases'."""

    field: str
    theirs: str
    """In words."""
    expected: tuple[str, ...]
    """What the cases have instead."""
    texts: tuple[str, ...]
    """The texts that these cases follow."""
    cases: tuple[str, ...]
    """Names of the cases in which it matters."""


@dataclass(frozen=True)
class Diagnosis:
    """What explains an implementation's output."""

    deviations: tuple[Deviation, ...]
    unexplained: tuple[Verdict, ...]
    """Cases with other values than the slow reference returns with these choices."""


def diagnose(verdicts: Iterable[Verdict], part: str) -> Diagnosis:
    """Explain the deviating cases of one part: an estimator, or the loss."""
    search = _Search([v for v in verdicts if v.case.part == part and v.outcome in ("agrees", "deviates")], AXES[part])
    choices: dict[str, Any] = {}
    while step := search.best_step(choices):
        choices |= step
    for field in list(choices):
        without = _without(choices, field)
        if search.explained(without) == search.explained(choices):
            choices = without
    explained = [v.case for v in search.judged if search.explains(v, choices)]
    unexplained = [v for v in search.judged if v.outcome == "deviates" and v.case not in explained]
    deviations = [_deviation(axis, choices, explained) for axis in AXES[part] if axis.field in choices]
    return Diagnosis(tuple(d for d in deviations if d.cases), tuple(unexplained))


class _Search:
    """Looks for choices that explain verdicts; remembers which choices explain which case."""

    def __init__(self, judged: list[Verdict], axes: tuple[Axis, ...]) -> None:
        self.judged, self.axes = judged, axes
        self.memory: dict[tuple[str, frozenset[tuple[str, Any]]], bool] = {}

    def explains(self, verdict: Verdict, choices: Choices) -> bool:
        case = verdict.case
        active = {field: value for field, value in choices.items() if field not in case.idle_fields}
        key = (case.name, frozenset(active.items()))
        if key not in self.memory:
            computed = case.computed(replace(case.rules, **active))
            self.memory[key] = not first_difference(verdict.returned, _judged(computed, case), case.tolerance)
        return self.memory[key]

    def explained(self, choices: Choices) -> int:
        return sum(self.explains(v, choices) for v in self.judged)

    def best_step(self, choices: Choices) -> dict[str, Any]:
        """Return the smallest addition to the choices that explains the most further cases, empty if none does."""
        before = self.explained(choices)
        unexplained = [v for v in self.judged if not self.explains(v, choices)]
        for size in range(1, MOST_CHANGES_AT_ONCE + 1):
            probes = sorted(unexplained, key=lambda v: v.case.size)[: None if size == 1 else PROBES]
            steps = self._steps(choices, size)
            useful = [step for step in steps if any(self.explains(v, {**choices, **step}) for v in probes)]
            after = [(self.explained({**choices, **step}), step) for step in useful]
            most, best = max(after, key=lambda pair: pair[0], default=(0, {}))
            if most > before:
                return best
        return {}

    def _steps(self, choices: Choices, size: int) -> Iterable[dict[str, Any]]:
        for chosen in itertools.combinations(self.axes, size):
            values = [[value for value in axis.words if choices.get(axis.field, ...) != value] for axis in chosen]
            for combination in itertools.product(*values):
                yield {axis.field: value for axis, value in zip(chosen, combination, strict=True)}


def _without(choices: Choices, field: str) -> dict[str, Any]:
    return {other: value for other, value in choices.items() if other != field}


def _judged(computed: Expected, case: Case) -> Expected:
    """Put null where the case does not judge."""
    return {key: _with_nulls(computed[key], case.expected[key]) for key in case.expected}


def _with_nulls(computed: Any, expected: Any) -> Any:
    if isinstance(computed, list):
        return [_with_nulls(*pair) for pair in zip(computed, expected, strict=True)]
    return None if expected is None else computed


def _deviation(axis: Axis, choices: Choices, explained: list[Case]) -> Deviation:
    theirs = choices[axis.field]
    different = [case for case in explained if getattr(case.rules, axis.field) != theirs]
    matters = [case for case in different if _matters(case, choices, axis.field)]
    expected = dict.fromkeys(axis.words[getattr(case.rules, axis.field)] for case in matters)
    texts = [text for text in TEXTS if any(text in case.follows for case in matters)]
    names = tuple(case.name for case in matters)
    return Deviation(axis.field, axis.words[theirs], tuple(expected), tuple(texts), names)


def _matters(case: Case, choices: Choices, field: str) -> bool:
    with_it, without = (case.computed(replace(case.rules, **c)) for c in (choices, _without(choices, field)))
    return bool(first_difference(with_it, _judged(without, case), case.tolerance))
