"""Puts verdicts and diagnoses together, for the console and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from reinforcepp_verl.common.terminal import say, widen_pipe
from reinforcepp_verl.conformance.axes import AXES
from reinforcepp_verl.conformance.case_files import TEXTS, Case
from reinforcepp_verl.conformance.diagnosis import Deviation, Diagnosis, diagnose
from reinforcepp_verl.conformance.judge import Implementation, Verdict, judge

OUTCOMES = ("agrees", "deviates", "error", "unsupported")
PARTS = {"reinforcepp": "REINFORCE++", "reinforcepp_baseline": "REINFORCE++-baseline", "policy_loss": "the policy loss"}
assert set(PARTS) == set(AXES)

NAMES = {"paper": "the paper", "openrlhf": "OpenRLHF", "verl": "verl", "reinforcepp-verl": "docs/algorithm.md"}
LEFT_OPEN = {"paper": ("ddof", "floor")}
"""Choices on which a text is silent, though its cases have to make one."""


@dataclass(frozen=True)
class Report:
    """All verdicts on one implementation."""

    called: str
    verdicts: tuple[Verdict, ...]
    diagnoses: dict[str, Diagnosis]
    """By part."""
    text: str | None = None
    """The only text that the cases follow; None: all of them were asked."""

    @property
    def conforms(self) -> bool:
        """True if no judged case fails, or deviates where the text, if one was chosen, says something."""
        outcomes = self.outcomes_by(self.text) if self.text else {v.outcome for v in self.verdicts}
        return not {"deviates", "error"} & set(outcomes)

    @property
    def judged(self) -> int:
        """Number of cases that the implementation supports."""
        return sum(v.outcome != "unsupported" for v in self.verdicts)

    def outcomes_by(self, text: str) -> Counter[str]:
        """Count outcomes of the cases that follow a text; one that deviates only where the text is silent agrees."""
        return Counter(self._outcome_by(text, v) for v in self.verdicts if text in v.case.follows)

    def _outcome_by(self, text: str, verdict: Verdict) -> str:
        deviations = self.diagnoses[verdict.case.part].deviations
        fields = {deviation.field for deviation in deviations if verdict.case.name in deviation.cases}
        silent = bool(fields) and fields <= set(LEFT_OPEN.get(text, ()))
        return "agrees" if verdict.outcome == "deviates" and silent else verdict.outcome

    def of(self, part: str, outcome: str) -> list[Verdict]:
        """Return the verdicts on one part with one outcome."""
        return [v for v in self.verdicts if v.case.part == part and v.outcome == outcome]


def examine(called: str, implementation: Implementation, cases: Iterable[Case], text: str | None = None) -> Report:
    """Judge an implementation by the cases, or by those that follow `text`, and explain what deviates."""
    verdicts = tuple(judge(case, implementation) for case in cases if text is None or text in case.follows)
    return Report(called, verdicts, {part: diagnose(verdicts, part) for part in PARTS}, text)


def sentence(deviation: Deviation) -> str:
    """Put a deviation into sentences."""
    theirs = deviation.theirs[0].upper() + deviation.theirs[1:]
    texts = [text for text in deviation.texts if deviation.field not in LEFT_OPEN.get(text, ())]
    found = [f"{theirs}."]
    if texts:
        found.append(f"In {_join(NAMES[text] for text in texts)}: {'; or '.join(deviation.expected)}.")
    if set(deviation.texts) - set(texts):
        found.append("The paper leaves it open.")
    return " ".join(found)


def print_report(report: Report, console: Console) -> None:
    """Print counts, then every deviation in words."""
    table = Table(box=box.SIMPLE)
    for column in ("cases", *OUTCOMES):
        table.add_column(column, justify="left" if column == "cases" else "right")
    for part, title in PARTS.items():
        table.add_row(title, *(str(len(report.of(part, outcome))) for outcome in OUTCOMES))
    for text, title in TEXTS.items():
        counts = report.outcomes_by(text)
        table.add_row(f"following {text} ({title})", *(str(counts[outcome]) for outcome in OUTCOMES))
    widen_pipe(console, table)
    console.print(table)
    for part, title in PARTS.items():
        _print_part(report, part, title, console)
    say(console, "It conforms." if report.conforms else "It deviates.")


def _print_part(report: Report, part: str, title: str, console: Console) -> None:
    diagnosis = report.diagnoses[part]
    lines = []
    for deviation in diagnosis.deviations:
        lines.append(f"- {sentence(deviation)}")
        lines.append(f"  {_count(len(deviation.cases))}; {_example(report, deviation)}")
    lines += [f"- {v.case.name} fails: {v.detail}" for v in report.of(part, "error")]
    lines += [f"- {v.case.name} is not explained by any choice known here: {v.detail}" for v in diagnosis.unexplained]
    for reason, count in Counter(v.detail for v in report.of(part, "unsupported")).items():
        lines.append(f"- unsupported: {reason or 'no reason given'} ({_count(count)})")
    if lines:
        say(console, f"{title}:")
        for line in lines:
            say(console, line)
        console.print()


def _example(report: Report, deviation: Deviation) -> str:
    verdicts = {v.case.name: v for v in report.verdicts}
    # A small case in which few other choices matter says most.
    others = Counter(name for d in report.diagnoses.values() for other in d.deviations for name in other.cases)
    name = min(deviation.cases, key=lambda case: (others[case], verdicts[case].case.size))
    return f"in {name}, {verdicts[name].detail}" if verdicts[name].detail else f"for example {name}"


def _count(cases: int) -> str:
    return "1 case" if cases == 1 else f"{cases} cases"


def _join(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def as_json(report: Report) -> dict[str, Any]:
    """Return everything the console shows, and the outcome of each case."""
    return {
        "call": report.called,
        "conforms": report.conforms,
        "parts": {
            part: {
                "outcomes": {outcome: len(report.of(part, outcome)) for outcome in OUTCOMES},
                "deviations": [
                    asdict(deviation) | {"sentence": sentence(deviation)}
                    for deviation in report.diagnoses[part].deviations
                ],
                "unexplained": [v.case.name for v in report.diagnoses[part].unexplained],
            }
            for part in PARTS
        },
        "texts": {text: dict(report.outcomes_by(text)) for text in TEXTS},
        "cases": {
            v.case.name: {
                "part": v.case.part,
                "outcome": v.outcome,
                "detail": v.detail,
                "follows": list(v.case.follows),
            }
            for v in report.verdicts
        },
    }
