"""The page of all tables of results: Markdown with a figure for each suite."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from reinforcepp_verl.common import durable
from reinforcepp_verl.comparison import figure, outcome, statistics, table
from reinforcepp_verl.comparison import suite as suites
from reinforcepp_verl.comparison.outcome import Outcome, Versus, curve
from reinforcepp_verl.comparison.suite import Suite


def write(results: Path, out: Path) -> list[Path]:
    """Write the page and its figures, `PAGE_SUITE.png`; return all files.

    Raises:
        ValueError: there is no table, or one is damaged
    """
    shown = suites.with_table(results)
    if not shown:
        raise ValueError(f"{results} has no table of a suite; `reinforcepp compare SUITE` makes one")
    out.parent.mkdir(parents=True, exist_ok=True)
    figures = []
    for suite in shown:
        figures.append(out.with_name(f"{out.stem}_{suite.name}.png"))
        durable.write(figures[-1].resolve(), figure.draw(suite, table.read(results, suite.name)))
    durable.write(out.resolve(), markdown(results, out.stem).encode())
    return [out, *figures]


def markdown(results: Path, stem: str) -> str:
    """Return the page; `stem` begins the names of the figures."""
    shown = suites.with_table(results)
    parts = [INTRODUCTION, *_sayings(shown)]
    for suite in shown:
        parts.append(_section(suite, table.read(results, suite.name), stem))
    names = {suite.name for suite in shown}
    return "\n".join(parts + _not_run([suites.load(name) for name in suites.names() if name not in names]))


def outcomes(suite: Suite, rows: pd.DataFrame) -> list[Outcome]:
    """Return the results of the suite's methods that have any, best first."""
    methods = [method for method in suite.file.methods if (rows.method == method).any()]
    found = [outcome.of_method(rows, method, suite.file) for method in methods]
    return sorted(found, key=lambda one: -one.over_training.mean)


def _sayings(shown: list[Suite]) -> list[str]:
    rows = [
        [f"[{suite.name}](#{suite.name})", suite.file.paper or "-", suite.file.seen]
        for suite in shown
        if suite.file.seen
    ]
    title = "## What others say, and what we see"
    on_a_cpu = any(suite.file.cluster == "cpu" and suite.name in suites.names() for suite in shown)
    table_of_them = [title, "", *_table(("suite", "others say", "we see"), rows)] if rows else []
    return [*table_of_them, CANNOT_SHOW] if rows and on_a_cpu else table_of_them


def _not_run(others: list[Suite]) -> list[str]:
    rows = [
        [f"`{suite.name}`", suite.file.question, suite.file.recipe, suite.file.cluster, ", ".join(suite.file.methods)]
        for suite in others
    ]
    header = ("suite", "question", "recipe", "cluster", "methods")
    return ["## Not run", "", NOT_RUN, *_table(header, rows)] if rows else []


def _section(suite: Suite, rows: pd.DataFrame, stem: str) -> str:
    found = outcomes(suite, rows)
    lines = [f"## {suite.name}", "", suite.file.question, "", f"![{suite.name}]({stem}_{suite.name}.png)", ""]
    if missing := len(suite.file.methods) * suite.file.seeds - sum(len(one.seeds) for one in found):
        wanted = len(suite.file.methods) * suite.file.seeds
        lines += [f"**Not finished**: {missing} of {wanted} trainings are missing.", ""]
    measure, threshold = suite.file.measure, suite.file.threshold
    lines += _table(
        ("method", "seeds", f"final {measure}", f"{measure} over training", "difference", "p", "P(better)"),
        map(_learning, found),
    )
    lines += _table(
        ("method", "KL", "length", f"tokens to {threshold}", f"s to {threshold}", "s/step", "s/update", "GB"),
        map(_cost, found),
    )
    lines += _by_source(rows, measure, [one.method for one in found])
    finals = rows[rows.metric == measure].groupby(["method", "seed"]).value.last()
    middle = statistics.interquartile_mean(finals.to_numpy())
    lines += [
        f"Interquartile mean of the final {measure} of all {len(finals)} runs: {middle:.3f}.",
        "",
        f"`reinforcepp compare {suite.name}`: recipe `{suite.file.recipe}`, {suite.file.steps} steps, reference "
        f"`{suite.file.reference}`. {'; '.join(sorted(rows.hardware.unique()))}. "
        f"{'; '.join(sorted(rows.versions.unique()))}. Made {' and '.join(sorted(rows.date.unique()))}.",
        "",
    ]
    return "\n".join(lines)


def _by_source(rows: pd.DataFrame, measure: str, methods: list[str]) -> list[str]:
    """Return the final values of each data source, if there are several."""
    metrics = sorted(name for name in rows.metric.unique() if name.startswith(f"{measure}/"))
    if not metrics:
        return []
    finals = [[f"`{method}`", *(_final(curve(rows, method, name)) for name in metrics)] for method in methods]
    return _table(("method", *(f"final {name}" for name in metrics)), finals)


def _final(values: pd.DataFrame) -> str:
    return "-" if values.empty else str(statistics.interval(values.iloc[-1].to_numpy()))


def _learning(one: Outcome) -> list[str]:
    return [f"`{one.method}`", str(len(one.seeds)), str(one.final), str(one.over_training), *_versus(one.versus)]


def _cost(one: Outcome) -> list[str]:
    return [
        f"`{one.method}`",
        _number(one.kl, ".3f"),
        f"{one.length:.2f}",
        _number(one.tokens_to_threshold, ",.0f"),
        _number(one.seconds_to_threshold, ".0f"),
        _number(one.step_s, ".2f"),
        _number(one.update_s, ".2f"),
        _number(one.memory_gb, ".1f"),
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _versus(one: Versus | None) -> list[str]:
    if one is None:
        return ["-"] * 3
    difference = one.difference
    shown = f"{difference.mean:+.3f}"
    if difference.low < difference.high:
        shown += f" [{difference.low:+.3f}, {difference.high:+.3f}]"
    return [shown, f"{one.p_value:.2f}", f"{one.improvement:.2f}"]


def _table(header: tuple[str, ...], rows: Iterable[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)] + [""]


INTRODUCTION = """# Results

Written by `reinforcepp report results -o docs/results.md` from the tables in `results/`, which `reinforcepp compare
SUITE` fills. [compare.md](compare.md) explains both, and how to add a method or a suite.

Brackets are 95% intervals of the bootstrap over seeds, which are too narrow with few of them. "Over training" is the
mean of all validations after the first, so that it counts how fast a method learns. "Difference" is that of a method to
the suite's reference on the same seeds, with the p-value of the exact paired permutation test: with five seeds it is
0.0625 at the least, with one it is 1; it is not corrected for the number of methods. "P(better)" is the probability
that a run of the method is better than one of the reference. Both are about the mean over training.

KL (to the initial model, the mean difference of log-probabilities per token) and length are means of the last ten
steps. Tokens (with prompts, without the greedy answers of `remax`) and seconds are counted to the first validation that
is there, as medians over seeds. Times are of the seeds that have them, in trainings that ran beside each other: compare
them within a table, and not closely. GB is the memory of all processes of a run. In the figures, reward, KL and length
are running means of five steps.
"""

CANNOT_SHOW = """What the suites for two cores cannot show: answers there have a few tokens, and the model has under a
million weights and has practised the task before. Nothing is said about long answers, where a mean over tokens and one
over answers differ most, about models that can reason, about thousands of steps, or about reward models of useful size.
"""

NOT_RUN = """Composed and checked by the tests, but not trained for this page.
"""
