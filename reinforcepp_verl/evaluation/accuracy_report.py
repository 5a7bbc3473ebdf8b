"""Evaluates files of generations: accuracy per data source, and the difference of two files on the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reinforcepp_verl.evaluation import estimates
from reinforcepp_verl.evaluation.equal_answers import by_value
from reinforcepp_verl.evaluation.estimates import BootstrapEstimate, Difference
from reinforcepp_verl.evaluation.generations import DataSource, Generations
from reinforcepp_verl.evaluation.record import UNNAMED

MEAN = "mean"


@dataclass(frozen=True)
class Resampling:
    """Parameters of the bootstraps."""

    resamples: int = 10_000
    seed: int = 1


@dataclass(frozen=True)
class SourceReport:
    """Results of one data source: `metrics` has mean, pass@k and, if the file has answers, maj@k."""

    name: str
    questions: int
    samples: tuple[int, int]
    ks: tuple[int, ...]
    metrics: dict[str, BootstrapEstimate]
    values: dict[str, np.ndarray]
    keys: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Results of one file."""

    label: str
    generations: Generations
    data_sources: tuple[SourceReport, ...]


@dataclass(frozen=True)
class SourceComparison:
    """The differences on the shared questions; `left_out` counts those that only one file has."""

    name: str
    questions: int
    left_out: int
    metrics: dict[str, Difference]


@dataclass(frozen=True)
class Comparison:
    """`second - first`, per data source."""

    first: str
    second: str
    data_sources: tuple[SourceComparison, ...]


def evaluate(label: str, generations: Generations, ks: Sequence[int] | None, resampling: Resampling) -> Report:
    """Evaluate every data source for `ks`; by default powers of two up to the fewest samples of its questions.

    Raises:
        ValueError: no data source has enough samples for any of `ks`
    """
    sources = tuple(_evaluate(source, ks, resampling) for source in generations.data_sources)
    if not any(source.ks for source in sources):
        reasons = "; ".join(f"{source.name}: {source.notes[0]}" for source in sources)
        raise ValueError(f"{label}: {reasons}")
    return Report(label, generations, sources)


def compare(first: Report, second: Report, resampling: Resampling) -> Comparison:
    """Compare metric by metric, on the shared questions.

    Raises:
        ValueError: the files have no question in common
    """
    before, after = ({source.name: source for source in report.data_sources} for report in (first, second))
    names = sorted(before.keys() | after.keys())
    found = [_compare(name, before.get(name), after.get(name), resampling) for name in names]
    if not any(comparison.questions for comparison in found):
        raise ValueError(
            f"{first.label} and {second.label} have no question in common (the same data source, text and ground truth)"
        )
    return Comparison(first.label, second.label, tuple(found))


def default_ks(most: int) -> tuple[int, ...]:
    """Return 2, 4, 8, ... below `most`, and `most`; 1 only if `most` is 1, because pass@1 is the mean."""
    return (*(2**power for power in range(1, (most - 1).bit_length())), most)


def _evaluate(source: DataSource, ks: Sequence[int] | None, resampling: Resampling) -> SourceReport:
    fewest, most = source.samples
    wanted = default_ks(fewest) if ks is None else tuple(sorted(set(ks)))
    refusals = [reason for k in wanted if (reason := source.too_few_samples(k))]
    possible = tuple(k for k in wanted if k <= fewest)
    values = _values(source, possible)
    metrics = {
        name: estimates.bootstrap(each, resamples=resampling.resamples, seed=resampling.seed)
        for name, each in values.items()
    }
    return SourceReport(
        source.name,
        len(source.questions),
        (fewest, most),
        possible,
        metrics,
        values,
        tuple(question.key for question in source.questions),
        (*refusals, *_notes(source, metrics)),
    )


def _values(source: DataSource, ks: Sequence[int]) -> dict[str, np.ndarray]:
    correct, answers = source.correct, source.answers
    if answers is not None:
        answers = [by_value(given, right) for given, right in zip(answers, correct, strict=True)]
    values = {MEAN: estimates.mean_at_k(correct)}
    for k in ks:
        values[f"pass@{k}"] = estimates.pass_at_k(correct, k)
        if answers is not None:
            values[f"maj@{k}"] = estimates.majority_at_k(correct, answers, k)
    return values


def _notes(source: DataSource, metrics: dict[str, BootstrapEstimate]) -> list[str]:
    """Return caveats about the numbers."""
    fewest, most = source.samples
    notes = []
    if source.name == UNNAMED:
        notes.append("the lines have no data_source: all questions are one group (a reward may return it as a key)")
    if source.answers is None:
        notes.append("no maj@k: the lines have neither pred nor answer")
    if source.ungraded:
        notes.append(f"samples without a grade (null), counted as wrong: {source.ungraded}")
    if fewest < most:
        notes.append(f"questions have {fewest} to {most} samples; unlike verl, missing ones do not count as wrong")
    flat = [name for name, estimate in metrics.items() if estimate.low == estimate.high]
    if flat:
        notes.append(
            f"{', '.join(flat)}: no interval, because all {len(source.questions)} questions have the same value"
        )
    return notes


def _compare(
    name: str, before: SourceReport | None, after: SourceReport | None, resampling: Resampling
) -> SourceComparison:
    known, kept = (set(report.keys if report else ()) for report in (before, after))
    shared = sorted(known & kept)
    metrics = {}
    if before and after and shared:
        for metric in before.values:
            if metric in after.values:
                pair = (_by_question(report, metric, shared) for report in (before, after))
                metrics[metric] = estimates.paired_bootstrap(
                    *pair, resamples=resampling.resamples, seed=resampling.seed
                )
    return SourceComparison(name, len(shared), len(known ^ kept), metrics)


def _by_question(report: SourceReport, name: str, keys: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return a metric in the order of `keys`; a question that occurs twice counts once, with its mean."""
    found: dict[tuple[str, str], list[float]] = {}
    for key, value in zip(report.keys, report.values[name], strict=True):
        found.setdefault(key, []).append(float(value))
    return np.array([np.mean(found[key]) for key in keys])
