"""Answers that a run has kept, of its training (RUN/samples) and of its validations, in one form, grouped by prompt."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reinforcepp_verl.common.json_text import parse_object
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.evaluation.record import VERL_UID
from reinforcepp_verl.training_samples import record as kept
from reinforcepp_verl.training_samples.files import SampleFiles

LARGEST = 1e300
"""Larger numbers, infinity and NaN count as missing."""
RIGHT, WRONG, TRUNCATED, ERROR = "right", "wrong", "truncated", "error"


@dataclass(frozen=True)
class Answer:
    """One answer; `rows` has its tokens if they were kept."""

    text: str
    reward: float | None
    kinds: tuple[str, ...]
    """`right` or `wrong`, or `error` if the reward function could not score it; also `truncated`."""
    length: int
    """In tokens of the model for training answers, in characters for those of a validation."""
    advantage: float | None = None
    rows: tuple[kept.Row, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptGroup:
    """A prompt with its answers."""

    prompt: str
    truth: str | None
    answers: tuple[Answer, ...]
    sampled: int
    """Number of answers to the prompt; some may not be kept."""
    mean_reward: float | None = None


@dataclass(frozen=True)
class KeptAnswers:
    """The steps whose answers are kept, in order; `read` returns those of one step and raises ValueError or OSError."""

    steps: list[int]
    read: Callable[[int], list[PromptGroup]]


def training_answers(run: RunFolder) -> KeptAnswers:
    """Return the answers in RUN/samples."""
    files = SampleFiles(run.samples)

    def read(step: int) -> list[PromptGroup]:
        samples = files.read(step)
        if any(map(_is_uneven, (row for sample in samples for answer in sample.answers for row in answer.rows))):
            file = run.samples / f"{step}.jsonl"
            raise ValueError(f"{file}: an answer without one value per token; its answers are not shown")
        return [_group(sample) for sample in samples]

    return KeptAnswers(files.steps(), read)


def _is_uneven(row: kept.Row) -> bool:
    lists = (row.mask, row.advantages, row.engine_log_probs, row.trainer_log_probs)
    return any(each is not None and len(each) != len(row.tokens) for each in lists)


def validation_files(run: RunFolder) -> dict[int, Path]:
    """Return verl's dumps in RUN/validation by their steps, in order."""
    files = {int(file.stem): file for file in run.validation.glob("*.jsonl") if file.stem.isdecimal()}
    return dict(sorted(files.items()))


def validation_answers(run: RunFolder) -> KeptAnswers:
    """Return the answers in RUN/validation."""
    files = validation_files(run)
    return KeptAnswers(list(files), lambda step: list(_groups(_dumped(files[step]))))


def _group(sample: kept.PromptSample) -> PromptGroup:
    answers = tuple(map(_training_answer, sample.answers))
    return PromptGroup(sample.prompt, sample.ground_truth, answers, sample.sampled, sample.mean_reward)


def _training_answer(answer: kept.Answer) -> Answer:
    verdict = ERROR if answer.error else RIGHT if answer.is_right else WRONG
    flags = {"greedy": answer.greedy, "left out of the training": answer.dropped}
    notes: dict[str, Any] = {name: True for name, is_set in flags.items() if is_set}
    notes |= {"ends": answer.end} | ({"KL to the reference": answer.kl} if answer.kl is not None else {})
    notes |= answer.parts | answer.texts | ({"error": answer.error} if answer.error else {})
    return Answer(
        text=answer.text,
        reward=answer.reward,
        kinds=(verdict, TRUNCATED) if answer.is_truncated else (verdict,),
        length=answer.length,
        advantage=answer.advantage,
        rows=tuple(answer.rows),
        notes=notes,
    )


SHOWN_ELSEWHERE = {
    *("input", "output", "gts", "score", "step", "uid", "reward", "acc", "data_source"),
    *("reward_error", "reward_timeout"),
}
"""Keys of a dump that are not repeated in the notes."""


def _dumped(file: Path) -> Iterator[dict[str, Any]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = parse_object(line)
                if not isinstance(record.get("input"), str) or not isinstance(record.get("output"), str):
                    raise ValueError("no input and output of verl's dump")
            except ValueError as error:
                raise ValueError(f"{file}, line {number}: {error}; its answers are not shown") from error
            yield record


def _groups(records: Iterable[dict[str, Any]]) -> Iterator[PromptGroup]:
    """Group by verl's uid or, without it, by text; of a session with several outputs all are shown."""
    prompts: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        uid = VERL_UID.fullmatch(str(record.get("uid")))
        prompts.setdefault(uid[1] if uid else json.dumps([record["input"], record.get("gts")]), []).append(record)
    for group in prompts.values():
        answers = tuple(map(_validation_answer, group))
        rewards = [answer.reward for answer in answers if answer.reward is not None]
        mean = sum(rewards) / len(rewards) if rewards else None
        truth = group[0].get("gts")
        yield PromptGroup(group[0]["input"], None if truth is None else str(truth), answers, len(answers), mean)


def _validation_answer(record: dict[str, Any]) -> Answer:
    reward, correct = _number(record.get("score")), _number(record.get("acc"))
    grade = correct if correct is not None else reward
    error = "timeout" if record.get("reward_timeout") else "failed" if record.get("reward_error") else None
    verdict = ERROR if error else RIGHT if grade is not None and grade > 0 else WRONG
    notes = {name: value for name, value in record.items() if name not in SHOWN_ELSEWHERE and value is not None}
    notes |= {"reward function": error} if error else {}
    return Answer(record["output"], reward, (verdict,), len(record["output"]), notes=notes)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < LARGEST else None
