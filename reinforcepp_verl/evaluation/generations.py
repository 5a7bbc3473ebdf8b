"""Reads a JSONL file of scored answers, verl's dump or a plain one, into the samples of every question.

verl's lines (trainer.validation_data_dir) have input, output, gts, score, step, uid and the values returned by the
reward, such as acc and pred; plain lines have question, answer, acc and optionally data_source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reinforcepp_verl.common.json_text import objects
from reinforcepp_verl.evaluation.record import LineFormat, Record, Sample

ANOTHER = "repair it, or evaluate another one (of a run: --step N)"


@dataclass(frozen=True)
class Question:
    """A question with all its samples."""

    text: str
    truth: str
    samples: tuple[Sample, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the question across files."""
        return self.text, self.truth


@dataclass(frozen=True)
class DataSource:
    """The questions of one data source, sorted."""

    name: str
    questions: tuple[Question, ...]

    @property
    def correct(self) -> list[list[bool]]:
        return [[sample.correct for sample in question.samples] for question in self.questions]

    @property
    def answers(self) -> list[list[str]] | None:
        """The answers, "" if a sample has none; None if the file has no answers at all."""
        if self.questions[0].samples[0].answer is None:
            return None
        return [[sample.answer or "" for sample in question.samples] for question in self.questions]

    @property
    def samples(self) -> tuple[int, int]:
        """The smallest and largest number of samples per question."""
        counts = [len(question.samples) for question in self.questions]
        return min(counts), max(counts)

    @property
    def ungraded(self) -> int:
        """Number of samples whose grade is null; they count as wrong, as in verl."""
        return sum(not sample.graded for question in self.questions for sample in question.samples)

    def too_few_samples(self, k: int) -> str | None:
        """Return why `k` samples cannot be drawn from every question, or None."""
        short = sum(len(question.samples) < k for question in self.questions)
        if not short:
            return None
        return (
            f"k={k} refused: {short} of {len(self.questions)} questions have fewer samples (fewest: {self.samples[0]})"
        )


@dataclass(frozen=True)
class Generations:
    """Contents of one file; `step` is the training step recorded by verl."""

    path: Path
    step: int | None
    data_sources: tuple[DataSource, ...]


def read_generations(path: Path) -> Generations:
    """Read the file strictly; a malformed line raises ValueError with file, line number and reason.

    The first line decides which keys all lines must have. Samples belong to the same question if verl's uid says so, or
    without uid if data source, question and ground truth are equal. In a session with several outputs the last one
    counts, as in verl's own metrics.
    """
    line_format: LineFormat | None = None
    step = None
    prompts: dict[tuple[str, str], dict[int, Record]] = {}
    for number, line in objects(path, ANOTHER):
        try:
            if line_format is None:
                line_format, step = LineFormat.from_line(line), line.get("step")
            record = line_format.read(line, number)
            sessions = prompts.setdefault((record.data_source, record.prompt), {})
            known = sessions.get(record.session)
            if known is not None and known.output == record.output:
                raise ValueError(f"uid is {line['uid']!r}, the same as in an earlier line")
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        if known is None or known.output < record.output:
            sessions[record.session] = record
    if not prompts:
        raise ValueError(f"{path}: the file is empty; {ANOTHER}")
    return Generations(path, step if isinstance(step, int) else None, tuple(_data_sources(prompts)))


def _data_sources(prompts: dict[tuple[str, str], dict[int, Record]]) -> Iterator[DataSource]:
    sources: dict[str, list[Question]] = {}
    for (name, _), sessions in prompts.items():
        records = list(sessions.values())
        # The text of the first session: later agent turns have longer prompts, which may differ between sessions.
        samples = tuple(record.sample for record in records)
        sources.setdefault(name, []).append(Question(records[0].text, records[0].truth, samples))
    for name, questions in sorted(sources.items()):
        yield DataSource(name, tuple(sorted(questions, key=lambda question: question.key)))
