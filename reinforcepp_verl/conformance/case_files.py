"""Reads and writes the cases, one JSON file each; README.md beside them has the schema."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from reinforcepp_verl.conformance import slow_advantages, slow_loss

FOLDER = Path(__file__).parent / "cases"
TEXTS = {
    "paper": "arXiv 2501.03262v9",
    "openrlhf": "OpenRLHF 0.11.2",
    "verl": "verl 0.9.1",
    "reinforcepp-verl": "docs/algorithm.md, where the three are silent",
}
Table = list[list[float | None]]
Expected = dict[str, Any]
Rules = slow_advantages.AdvantageRules | slow_loss.LossRules


@dataclass(frozen=True)
class Case:
    """One case, as in its file."""

    name: str
    about: str
    kind: str
    follows: dict[str, str]
    options: dict[str, Any]
    inputs: dict[str, Any]
    tolerance: float
    expected: Expected

    @property
    def part(self) -> str:
        """What of an implementation is judged: one of the two estimators, or the loss."""
        return str(self.options.get("estimator", self.kind))

    @property
    def size(self) -> int:
        """Number of positions, valid or not."""
        return sum(len(row) for row in self.inputs["response_mask"])

    @cached_property
    def idle_fields(self) -> frozenset[str]:
        """Fields of the rules that cannot matter in this case, whatever the others are."""
        given, mask = self.inputs, self.inputs["response_mask"]
        session = given.get("session", [])
        idle = {
            "kl kl_credit kl_limit kl_gradient": given.get("ref_log_prob") is None,
            "answers": len(set(session)) == len(session),
            "empty_rows": all(any(row) for row in mask),
            "positions discount masked_score": all(all(row) for row in mask),
            "discounted": self.options.get("gamma", 1.0) == 1.0,
            "statistics_of": not given.get("mini_batches"),
            "divisor": not given.get("micro_batches"),
        }
        return frozenset(field for fields, is_idle in idle.items() if is_idle for field in fields.split())

    @property
    def rules(self) -> Rules:
        """The rules of the texts that the case follows."""
        if self.kind == "advantages":
            return slow_advantages.rules_of_case(self.options)
        return slow_loss.rules_of_case(self.options)

    def computed(self, rules: Rules | None = None) -> Expected:
        """Compute what an implementation with these rules, by default the case's own, returns."""
        rules = rules or self.rules
        if isinstance(rules, slow_advantages.AdvantageRules):
            return dict(slow_advantages.advantages(self.inputs, rules))
        return slow_loss.policy_loss(self.inputs, rules)


def read_cases(folder: Path = FOLDER) -> list[Case]:
    """Read all cases, in the order of their names."""
    return [Case(**json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]


def as_text(case: Case) -> str:
    """Format a case as its file, with one row of a tensor per line."""
    return _text({field.name: getattr(case, field.name) for field in fields(case)}, "") + "\n"


def _text(value: Any, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        lines = [f"{inner}{json.dumps(key)}: {_text(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n" + ",\n".join(inner + json.dumps(row) for row in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)
