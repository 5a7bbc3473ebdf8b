"""What a rule is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reinforcepp_verl.diagnosis.measured import Change, Measured


@dataclass(frozen=True)
class Evidence:
    """Why a rule applies: metrics with their values, and the steps that they are from."""

    text: str
    first_step: int
    last_step: int

    @classmethod
    def of(cls, *changes: Change, also: str = "") -> Evidence:
        """Describe changes, of which the first gives the steps."""
        steps = changes[0].before.steps[0], changes[0].after.steps[-1]
        return cls("; ".join([*map(str, changes), *filter(None, [also])]), int(steps[0]), int(steps[1]))


@dataclass(frozen=True)
class Rule:
    """One thing that may be wrong with a run."""

    name: str
    criterion: str
    """What must hold, with the thresholds."""
    source: str
    """Where the thresholds come from."""
    cause: str
    change: str
    """What to do, with the keys."""
    steps: int
    """The fewest steps that it can be judged by."""
    metrics: tuple[str, ...]
    """Those without which the rule cannot say anything."""
    find: Callable[[Measured], Evidence | None]


@dataclass(frozen=True)
class Finding:
    """A rule that applies to a run."""

    rule: Rule
    evidence: Evidence


@dataclass(frozen=True)
class Diagnosis:
    """What the rules say about a run."""

    findings: list[Finding]
    not_recorded: dict[str, list[str]]
    """The rules that could not look, with the metrics that they miss."""
    too_early: dict[str, int]
    """The rules that need more steps, with their number."""


def diagnose(measured: Measured, rules: tuple[Rule, ...]) -> Diagnosis:
    """Apply the rules, in their order."""
    findings, not_recorded, too_early = [], {}, {}
    for rule in rules:
        if missing := [metric for metric in rule.metrics if metric not in measured]:
            not_recorded[rule.name] = missing
        elif measured.steps_of(rule.metrics) < rule.steps:
            too_early[rule.name] = rule.steps
        elif evidence := rule.find(measured):
            findings.append(Finding(rule, evidence))
    return Diagnosis(findings, not_recorded, too_early)
