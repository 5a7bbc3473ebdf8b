"""All rules, and the diagnosis of a run folder."""

from __future__ import annotations

from pathlib import Path

from reinforcepp_verl.diagnosis import answer_rules, policy_rules, system_rules
from reinforcepp_verl.diagnosis.measured import Measured
from reinforcepp_verl.diagnosis.rule import Diagnosis, diagnose
from reinforcepp_verl.report.history import load_history

RULES = (*policy_rules.RULES, *answer_rules.RULES, *system_rules.RULES)


def diagnose_run(run: Path) -> tuple[Measured, Diagnosis]:
    """Read the metrics of a run folder and apply all rules.

    Raises:
        ValueError: there are no metrics, or they are damaged; the message has the fix
    """
    measured = Measured(load_history(run).series)
    return measured, diagnose(measured, RULES)


def markdown() -> str:
    """Return the rules as the table of docs/explain.md."""
    lines = ["| rule | it applies if | threshold from | likely cause | what to change |", "|---|---|---|---|---|"]
    cells = ((f"`{rule.name}`", rule.criterion, rule.source, rule.cause, rule.change) for rule in RULES)
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells)]) + "\n"
