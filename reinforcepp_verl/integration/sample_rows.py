"""Turns rows of verl's queue into the records of training samples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import transfer_queue as tq
from torch import Tensor

from reinforcepp_verl.integration.reward_manager import is_truncated
from reinforcepp_verl.integration.reward_values import numbers_of
from reinforcepp_verl.integration.row_totals import (
    OLD_LOG_PROBS,
    REF_LOG_PROB,
    RESPONSE_MASK,
    ROLLOUT_LOG_PROBS,
    SCORE_MASK,
    SCORES,
)
from reinforcepp_verl.rewards.failures import ERROR_KEY
from reinforcepp_verl.training_samples.record import STOPPED, TRUNCATED, Answer, PromptSample, Row, cut_mark
from reinforcepp_verl.training_samples.selection import Candidate, Group, fair_limit, kept_ends
from reinforcepp_verl.training_samples.token_texts import text_of, token_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPTS, RESPONSES, ADVANTAGES = "prompts", "responses", "advantages"
PER_TOKEN = (RESPONSE_MASK, SCORES, SCORE_MASK, ADVANTAGES, OLD_LOG_PROBS, REF_LOG_PROB, ROLLOUT_LOG_PROBS)
OBJECTS = ("extra_fields", "reward_model", "data_source")
DECIMALS = 5
LONGEST_TEXT, MOST_VALUES = 500, 32
"""Limits of what a reward function may return for one answer: characters of a text, numbers, texts."""


def read_rows(keys: Iterable[str], partition_id: str) -> dict[str, dict[str, Any]]:
    """Return the fields of rows in the queue by key, those that it has."""
    wanted = list(keys)
    if not wanted:
        return {}
    fields = [PROMPTS, RESPONSES, *PER_TOKEN, *OBJECTS]
    data = tq.kv_batch_get(keys=wanted, partition_id=partition_id, select_fields=fields)
    columns = {name: data.pop(name) for name in fields if name in data}
    lists = {name: column.tolist() if name in OBJECTS else column.unbind() for name, column in columns.items()}
    return {key: {name: values[place] for name, values in lists.items()} for place, key in enumerate(wanted)}


def token_limit(rows: Mapping[str, Mapping[str, Any]], budget: int) -> int:
    """Return the number of tokens of each prompt and response that are kept; together they fit `budget`."""
    prompts = {tuple(row[PROMPTS].tolist()) for row in rows.values()}
    return fair_limit([*map(len, prompts), *(len(row[RESPONSES]) for row in rows.values())], budget)


@dataclass(frozen=True)
class SampleBuilder:
    """Builds records from the fields of the rows that are kept."""

    rows: Mapping[str, Mapping[str, Any]]
    tokenizer: PreTrainedTokenizerBase
    limit: int
    """Tokens of a text that are kept."""
    max_tokens: int
    """Tokens that an answer may have."""

    def sample(
        self, step: int, group: Group, chosen: Sequence[Candidate], greedy_keys: Sequence[str] = ()
    ) -> PromptSample:
        """Return the sample of a group: its `chosen` answers, then the greedy one."""
        first = self.rows[chosen[0].keys[0]]
        prompt = first[PROMPTS].tolist()
        answers = [self._answer(answer, prompt) for answer in chosen]
        if greedy_keys:
            answers.append(self._answer(self._baseline(greedy_keys), prompt, greedy=True))
        return PromptSample(
            step=step,
            prompt=self._cut(prompt),
            answers=answers,
            sampled=len(group.answers),
            mean_reward=_rounded(group.mean),
            reward_std=_rounded(group.std),
            data_source=_text(first.get("data_source")),
            ground_truth=_text((first.get("reward_model") or {}).get("ground_truth")),
        )

    def _baseline(self, keys: Sequence[str]) -> Candidate:
        ordered = tuple(sorted(keys, key=lambda key: int(key.rsplit("_", 1)[1])))
        reward = self.rows[ordered[-1]][SCORES].double().sum().item()
        return Candidate(int(ordered[0].rsplit("_", 2)[1]), reward, ordered)

    def _answer(self, answer: Candidate, prompt: list[int], *, greedy: bool = False) -> Answer:
        rows = [self.rows[key] for key in answer.keys]
        returned = rows[-1]["extra_fields"].get("reward_extra_info") or {}
        failed = bool(returned.get(ERROR_KEY))
        last = rows[-1][RESPONSES].tolist()
        return Answer(
            session=answer.number,
            reward=_rounded(answer.reward),
            length=sum(len(row[RESPONSES]) for row in rows),
            end=TRUNCATED if is_truncated(last, self.max_tokens, self.tokenizer.eos_token_id) else STOPPED,
            rows=[self._row(row, prompt) for row in rows],
            parts=_numbers(returned),
            texts={} if failed else _texts(returned),
            error=_text(returned["error"]) if failed else None,
            advantage=_mean_advantage(rows),
            kl=_kl(rows),
            greedy=greedy,
            dropped=answer.dropped,
        )

    def _row(self, row: Mapping[str, Any], prompt: list[int]) -> Row:
        ids, own_prompt = row[RESPONSES].tolist(), row[PROMPTS].tolist()
        head, tail = kept_ends(len(ids), self.limit)
        start, end = ids[:head], ids[len(ids) - tail :]

        def kept(name: str) -> list[float | None] | None:
            column = row.get(name)
            if column is None or len(column) != len(ids):
                return None
            values = column.tolist()
            return [_rounded(value) for value in [*values[:head], *values[len(ids) - tail :]]]

        is_scored = row.get(SCORE_MASK) is not None and bool(row[SCORE_MASK].any())
        return Row(
            token_ids=start + end,
            tokens=token_texts(start, self.tokenizer) + token_texts(end, self.tokenizer),
            mask=[int(value != 0) for value in kept(RESPONSE_MASK) or []],
            prompt=None if own_prompt == prompt else self._cut(own_prompt),
            advantages=kept(ADVANTAGES),
            trainer_log_probs=kept(OLD_LOG_PROBS),
            engine_log_probs=kept(ROLLOUT_LOG_PROBS),
            reference_log_probs=kept(REF_LOG_PROB),
            scores=kept(SCORES) if is_scored else None,
            left_out=len(ids) - head - tail,
            left_out_at=head if tail else 0,
        )

    def _cut(self, ids: list[int]) -> str:
        head, tail = kept_ends(len(ids), self.limit)
        start = text_of(ids[:head], self.tokenizer)
        return f"{start}{cut_mark(len(ids) - head - tail)}{text_of(ids[-tail:], self.tokenizer)}" if tail else start


def _mean_advantage(rows: Sequence[Mapping[str, Any]]) -> float | None:
    if any(ADVANTAGES not in row for row in rows):
        return None
    trained = [row[ADVANTAGES][row[RESPONSE_MASK] != 0].double() for row in rows]
    tokens = sum(len(values) for values in trained)
    return _rounded(sum(values.sum().item() for values in trained) / tokens) if tokens else None


def _kl(rows: Sequence[Mapping[str, Any]]) -> float | None:
    if any(REF_LOG_PROB not in row for row in rows):
        return None
    return _rounded(sum(_row_kl(row).sum().item() for row in rows))


def _row_kl(row: Mapping[str, Any]) -> Tensor:
    return (row[OLD_LOG_PROBS] - row[REF_LOG_PROB])[row[RESPONSE_MASK] != 0].double()


def _numbers(returned: Mapping[str, Any]) -> dict[str, float | None]:
    found = islice(numbers_of(returned).items(), MOST_VALUES)
    return {_cut(name): _rounded(number) for name, number in found}


def _texts(returned: Mapping[str, Any]) -> dict[str, str]:
    found = ((_cut(name), _cut(text)) for name, text in returned.items() if isinstance(text, str) and text)
    return dict(islice(((name, text) for name, text in found if name != "data_source"), MOST_VALUES))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return _cut(value if isinstance(value, str) else json.dumps(value, default=str))


def _cut(text: object) -> str:
    """Return a text that UTF-8 can encode, cut if it is long."""
    whole = str(text)
    cut = f"{whole[:LONGEST_TEXT]}[... {len(whole) - LONGEST_TEXT} characters left out ...]"
    return (whole if len(whole) <= LONGEST_TEXT else cut).encode("utf-8", "backslashreplace").decode()


def _rounded(number: float) -> float | None:
    return round(number, DECIMALS) if math.isfinite(number) else None
