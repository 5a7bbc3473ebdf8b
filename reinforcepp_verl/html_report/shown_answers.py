"""The part of a run's answers that goes into the page, and the distributions of all that were read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from reinforcepp_verl.html_report.answers import ERROR, RIGHT, TRUNCATED, WRONG, Answer, KeptAnswers, PromptGroup
from reinforcepp_verl.html_report.chosen_steps import spread
from reinforcepp_verl.html_report.histograms import histogram
from reinforcepp_verl.html_report.page_values import as_json
from reinforcepp_verl.html_report.run_contents import Problems
from reinforcepp_verl.training_samples.record import Row

MOST_CHARACTERS = 8000
"""Of the text of an answer or a prompt; the middle of a longer one is left out."""
MOST_TOKENS = 1200


@dataclass(frozen=True)
class _Step:
    """What is kept of the answers of a step once its file has been read."""

    shown: dict[str, Any]
    rewards: list[float]
    lengths: list[int]


def shown_answers(
    run: str, kind: str, kept: KeptAnswers, most_steps: int, max_bytes: float, problems: Problems
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the answers of one kind, at most about `max_bytes`, and the histograms of rewards and lengths."""
    chosen = spread(kept.steps, most_steps)
    found = {step: problems.reading(partial(_read, kept, step, max_bytes / len(chosen)), None) for step in chosen}
    read = {step: each for step, each in found.items() if each is not None and each.lengths}
    unit = "tokens" if kind == "training" else "characters"
    pictures = [
        histogram(f"Reward of {kind} answers", {step: each.rewards for step, each in read.items()}),
        histogram(f"Length of {kind} answers ({unit})", {step: each.lengths for step, each in read.items()}),
    ]
    steps = [each.shown for each in read.values()]
    shown = {"run": run, "kind": kind, "unit": unit, "steps": steps} if steps else None
    return shown, [{"run": run, **picture} for picture in pictures if picture]


def _read(kept: KeptAnswers, step: int, max_bytes: float) -> _Step:
    groups = kept.read(step)
    answers = [answer for group in groups for answer in group.answers]
    rewards = [answer.reward for answer in answers if answer.reward is not None]
    return _Step(_shown_step(step, groups, max_bytes), rewards, [answer.length for answer in answers])


def _shown_step(step: int, groups: Sequence[PromptGroup], max_bytes: float) -> dict[str, Any]:
    """Return as many groups as there is room for; those that say most come first."""
    shown, left = [], max_bytes
    for group in sorted(groups, key=_interest):
        head = {"prompt": _cut(group.prompt), "truth": _cut(group.truth or ""), "sampled": group.sampled}
        answers, left = _that_fit(group.answers, left - len(as_json(head)))
        if not answers:
            continue
        shown.append({**head, "mean": group.mean_reward, "answers": answers})
    return {"step": step, "of": len(groups), "groups": shown}


def _interest(group: PromptGroup) -> tuple[bool, bool, bool]:
    kinds = {kind for answer in group.answers for kind in answer.kinds}
    return (ERROR not in kinds, not {RIGHT, WRONG} <= kinds, TRUNCATED not in kinds)


def _that_fit(answers: Iterable[Answer], room: float) -> tuple[list[orjson.Fragment], float]:
    fitting = []
    for answer in answers:
        shown = as_json(_shown_answer(answer)).encode()
        if len(shown) > room:
            continue
        fitting.append(orjson.Fragment(shown))
        room -= len(shown)
    return fitting, room


def _shown_answer(answer: Answer) -> dict[str, Any]:
    text = {"rows": [_shown_row(row) for row in answer.rows]} if answer.rows else {"text": _cut(answer.text)}
    return {
        "kinds": answer.kinds,
        "reward": answer.reward,
        "advantage": answer.advantage,
        "length": answer.length,
        "notes": {name: _cut(value) if isinstance(value, str) else value for name, value in answer.notes.items()},
        **text,
    }


def _shown_row(row: Row) -> dict[str, Any]:
    """Return the tokens of a row with what colors them; a long row ends early, with `more` tokens not shown."""
    end = min(len(row.tokens), MOST_TOKENS)
    return {
        "prompt": None if row.prompt is None else _cut(row.prompt),
        "tokens": row.tokens[:end],
        "mask": "".join(map(str, row.mask[:end])),
        "advantages": row.advantages[:end] if row.advantages is not None else None,
        "gap": _gap(row, end),
        "left_out": row.left_out,
        "left_out_at": row.left_out_at,
        "more": len(row.tokens) - end + (row.left_out if row.left_out_at >= end else 0),
    }


def _gap(row: Row, end: int) -> list[float | None] | None:
    """Return the engine's minus the trainer's log-probability of each token.

    The engine has not sampled the tokens of a tool: verl's log-probability of these is 0.
    """
    if row.engine_log_probs is None or row.trainer_log_probs is None:
        return None
    triples = zip(row.engine_log_probs[:end], row.trainer_log_probs[:end], row.mask[:end], strict=True)
    return [
        None if engine is None or trainer is None or (engine == 0 and not mask) else engine - trainer
        for engine, trainer, mask in triples
    ]


def _cut(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
