"""Advantages of REINFORCE++ in plain Python, one token at a time, by rules that name every choice.

Nothing here is fast or shared with `algorithm/`. The rules of a case follow from its options; other rules compute what
an implementation returns that chose differently.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

Row = list[float | None]
"""Values of a row's tokens, None on masked tokens, which are not judged."""
Tokens = dict[tuple[int, int], float]
"""Values by (row, token)."""


@dataclass(frozen=True)
class AdvantageRules:
    """Every choice between scores and advantages; `axes.py` puts the values into words."""

    baseline: str = "none"
    lone_answer: str = "zero"
    answers: str = "sessions"
    empty_rows: str = "left_out"
    masked_score: str = "moved"
    clip: str = "none"
    clip_bounds: tuple[float, float] = (-10.0, 10.0)
    kl: str = "k1"
    kl_coef: float = 0.0
    kl_limit: float | None = None
    kl_credit: str = "to_go"
    credit: str = "to_go"
    gamma: float = 1.0
    discounted: bool = True
    discount: str = "valid_tokens"
    center: bool = True
    population: str = "token"
    positions: str = "valid"
    statistics_of: str = "batch"
    spread: str = "batch"
    spread_of: str = "returns"
    ddof: int = 0
    floor: str = "max(var, 1e-8)"


def rules_of_case(options: dict[str, Any]) -> AdvantageRules:
    """Translate the options of a case."""
    plain = options["estimator"] == "reinforcepp"
    return AdvantageRules(
        baseline="none" if plain else "group_mean",
        clip="none" if options["reward_clip"] is None else "after_baseline",
        clip_bounds=tuple(options["reward_clip"] or (-10.0, 10.0)),
        kl_coef=options["kl_coef"],
        gamma=options["gamma"],
        discounted=plain,
        population={"token": "token", "sample": "session"}[options["population"]],
        ddof=int(options["unbiased_variance"]),
        floor=options["floor"],
    )


def advantages(inputs: dict[str, Any], rules: AdvantageRules) -> dict[str, list[Row]]:
    """Compute `advantages` and `returns`, each (B, T)."""
    batch = _Batch(inputs, rules)
    returns = batch.returns()
    values = _normalized(batch, returns, rules)
    return {"advantages": batch.table(values), "returns": batch.table(returns)}


class _Batch:
    """The rows of a case, with scores and penalties on valid tokens."""

    def __init__(self, inputs: dict[str, Any], rules: AdvantageRules) -> None:
        self.rules = rules
        self.mask: list[list[int]] = inputs["response_mask"]
        self.group: list[int] = inputs["group"]
        self.session: list[int] = inputs["session"]
        self.mini_batches: list[list[int]] = inputs.get("mini_batches") or [list(range(len(self.mask)))]
        self.tokens = {i: [t for t, valid in enumerate(row) if valid] for i, row in enumerate(self.mask)}
        self.rows = [i for i, tokens in self.tokens.items() if tokens]
        self.score = {i: self._placed(i, inputs["token_level_scores"][i]) for i in self.rows}
        self.raw = {i: math.fsum(inputs["token_level_scores"][i]) for i in range(len(self.mask))}
        self.penalty = {i: self._penalties(i, inputs) for i in self.rows}
        self.inner: Tokens = {}  # sums at the masked tokens of an answer
        for i, scores in enumerate(inputs["token_level_scores"]):
            start = self.tokens[i][-1] + 1 if self.tokens[i] else 0
            scored = [t for t, score in enumerate(scores) if score]
            tail = range(start, scored[-1] + 1) if scored else range(0)
            self.inner.update({(i, t): math.fsum(scores[t:]) for t in tail})

    def table(self, values: Tokens) -> list[Row]:
        return [[values.get((i, t)) for t in range(len(row))] for i, row in enumerate(self.mask)]

    def _placed(self, i: int, scores: list[float]) -> dict[int, float]:
        placed = dict.fromkeys(self.tokens[i], 0.0)
        for t, score in enumerate(scores):
            before = [valid for valid in self.tokens[i] if valid <= t]
            if score and before and (before[-1] == t or self.rules.masked_score == "moved"):
                placed[before[-1]] += score
        return placed

    def _penalties(self, i: int, inputs: dict[str, Any]) -> dict[int, float]:
        if inputs.get("ref_log_prob") is None or not self.rules.kl_coef:
            return dict.fromkeys(self.tokens[i], 0.0)
        gaps = {t: inputs["old_log_prob"][i][t] - inputs["ref_log_prob"][i][t] for t in self.tokens[i]}
        return {t: self.rules.kl_coef * kl_estimate(self.rules.kl, gap, self.rules.kl_limit) for t, gap in gaps.items()}

    def counted(self) -> list[int]:
        return self.rows if self.rules.empty_rows == "left_out" else list(range(len(self.mask)))

    def share(self, i: int) -> float:
        """The weight of a row among answers: the rows of a session share one."""
        if self.rules.answers == "rows":
            return 1.0
        return 1 / sum(self.session[j] == self.session[i] for j in self.rows) if i in self.rows else 1.0

    def total(self, i: int) -> float:
        if i not in self.rows:
            return self.raw[i]
        whole = self.rules.kl_credit == "whole_answer"
        return math.fsum(self.score[i].values()) - (math.fsum(self.penalty[i].values()) if whole else 0.0)

    def baseline(self, i: int) -> float:
        if self.rules.baseline == "none":
            return 0.0
        peers = [j for j in self.counted() if self.group[j] == self.group[i]]
        count = math.fsum(self.share(j) for j in peers)
        total = math.fsum(self.share(j) * self.total(j) for j in peers)
        if count < 1.5:
            return 0.0 if self.rules.lone_answer == "raw" else self.total(i)
        if self.rules.baseline == "leave_one_out":
            return (total - self.total(i)) / (count - 1)
        return total / count

    def _clipped(self, scores: dict[int, float]) -> dict[int, float]:
        low, high = self.rules.clip_bounds
        return {t: min(max(score, low), high) for t, score in scores.items()}

    def _shaped(self, i: int) -> dict[int, float]:
        """The scores of a row after clip and baseline."""
        scores, last = dict(self.score[i]), self.tokens[i][-1]
        scores[last] -= self.baseline(i)
        if self.rules.kl_credit == "whole_answer":
            scores[last] -= math.fsum(self.penalty[i].values())
        return self._clipped(scores) if self.rules.clip == "after_baseline" else scores

    def returns(self) -> Tokens:
        if self.rules.clip == "before_baseline":
            self.score = {i: self._clipped(scores) for i, scores in self.score.items()}
        found: Tokens = {}
        for i in self.rows:
            scores = self._shaped(i)
            to_go = self._to_go(i, scores if self.rules.credit == "to_go" else {}, self.rules.kl_credit == "to_go")
            for t in self.tokens[i]:
                found[i, t] = to_go[t]
                if self.rules.credit == "own_token":
                    found[i, t] += scores[t]
                elif self.rules.credit == "every_token":
                    found[i, t] += math.fsum(scores.values())
                if self.rules.kl_credit == "own_token":
                    found[i, t] -= self.penalty[i][t]
        return found

    def _to_go(self, i: int, scores: dict[int, float], penalized: bool) -> dict[int, float]:
        gamma = self.rules.gamma if self.rules.discounted else 1.0
        running, sums = 0.0, {}
        for t in reversed(range(len(self.mask[i]))):
            if t in self.tokens[i]:
                reward = scores.get(t, 0.0) - (self.penalty[i][t] if penalized else 0.0)
                running = sums[t] = reward + gamma * running
            elif self.rules.discount == "every_position":
                running *= gamma
            elif self.rules.discount == "restart":
                running = 0.0
            if t not in self.tokens[i] and t < self.tokens[i][-1]:
                self.inner[i, t] = running
        return sums


def _normalized(batch: _Batch, returns: Tokens, rules: AdvantageRules) -> Tokens:
    """Subtract the mean and divide by the standard deviation."""
    parts = batch.mini_batches if rules.statistics_of == "mini_batch" else [batch.rows]
    values: Tokens = {}
    for part in parts:
        population = _population(batch, returns, rules, part)
        mean = _mean(population) if rules.center else 0.0
        divisor = {i: _spread(batch, returns, rules, population, i) for i in part}
        values.update({(i, t): (value - mean) / divisor[i] for (i, t), value in returns.items() if i in divisor})
    return values


Population = list[tuple[float, float]]
"""Members as (value, weight)."""


def _population(batch: _Batch, returns: Tokens, rules: AdvantageRules, rows: Iterable[int]) -> Population:
    rows = list(rows)
    members = [(value, i) for (i, _), value in returns.items() if i in rows]
    if rules.positions == "answer":
        members += [(value, i) for (i, _), value in batch.inner.items()]
    if rules.population == "token":
        padding = sum(not valid for i in rows for valid in batch.mask[i]) if rules.positions == "all" else 0
        return [(value, 1.0) for value, _ in members] + [(0.0, 1.0)] * padding
    if rules.empty_rows == "counted":
        empty = [i for i in range(len(batch.mask)) if i not in batch.rows]
        members += [(batch.total(i) - batch.baseline(i), i) for i in empty]
    unit: list[Hashable] = [batch.session[i] if rules.population == "session" else i for _, i in members]
    return [(value, 1 / unit.count(own)) for (value, _), own in zip(members, unit, strict=True)]


def _mean(population: Population) -> float:
    count = math.fsum(weight for _, weight in population)
    return math.fsum(weight * value for value, weight in population) / count if count else 0.0


def _spread(batch: _Batch, returns: Tokens, rules: AdvantageRules, population: Population, i: int) -> float:
    """The divisor of row i."""
    if rules.spread == "none":
        return 1.0
    peers = [j for j in batch.counted() if rules.spread == "batch" or batch.group[j] == batch.group[i]]
    if rules.spread_of == "scores":
        population = [(batch.total(j), batch.share(j)) for j in peers]
    elif rules.spread == "group":
        population = _population(batch, returns, rules, peers)
    count, mean = math.fsum(weight for _, weight in population), _mean(population)
    squares = math.fsum(weight * (value - mean) ** 2 for value, weight in population)
    variance = squares / (count - rules.ddof) if count - rules.ddof > 1e-9 else 0.0
    return _floored(variance, rules.floor)


def _floored(variance: float, floor: str) -> float:
    """Apply `max(var, x)`, `var + x` or `std + x`."""
    if floor == "none":
        return math.sqrt(variance) or math.nan
    if floor.startswith("max"):
        return math.sqrt(max(variance, float(floor.split(",")[1].rstrip(")"))))
    kind, _, size = floor.split()
    return math.sqrt(variance + float(size)) if kind == "var" else math.sqrt(variance) + float(size)


def kl_estimate(kind: str, gap: float, limit: float | None = None) -> float:
    """Estimate the KL from `gap`, the log-probability of the policy minus that of the reference (Schulman)."""
    value = {
        "none": 0.0,
        "k1": gap,
        "-k1": -gap,
        "abs": abs(gap),
        "k2": gap * gap / 2,
        "k3": math.exp(-gap) - 1 + gap,
    }[kind]
    return value if limit is None else min(max(value, -limit), limit)
