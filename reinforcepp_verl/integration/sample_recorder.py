"""Keeps some prompts of each step with their answers, read from verl's queue after the update (docs/samples.md).

Only the rows that are kept are read. Which ones is decided from one score per row.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import transfer_queue as tq
from torch import Tensor

from reinforcepp_verl.common.run_folder import Attempt
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.nodes import read_samples
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.integration.row_totals import SCORES
from reinforcepp_verl.integration.sample_rows import SampleBuilder, read_rows, token_limit
from reinforcepp_verl.training_samples.files import SampleFiles
from reinforcepp_verl.training_samples.selection import Candidate, Group, choose_answers, choose_groups

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transfer_queue import KVBatchMeta
    from transformers import PreTrainedTokenizerBase

    from reinforcepp_verl.config.sample_options import SampleOptions
    from reinforcepp_verl.integration.greedy_answers import GreedyAnswers
    from reinforcepp_verl.training_samples.record import PromptSample

logger = logging.getLogger(f"verl.{__name__}")

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class _Session:
    rows: dict[int, str] = field(default_factory=dict)
    score: float = 0.0
    """Of its last row: verl copies a session's score to all rows."""
    dropped: bool = False


def row_scores(batch: KVBatchMeta) -> Tensor:
    """Return the sum of the scores of each row (B,), float64."""
    column = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=[SCORES])[SCORES]
    return torch.stack([row.double().sum() for row in column.unbind()])


class SampleRecorder:
    """Collects the rows of a step, and writes some of them to the run's folder."""

    def __init__(self, options: SampleOptions, files: SampleFiles, max_tokens: int) -> None:
        self._options, self._files, self._max_tokens = options, files, max_tokens
        self._sessions: dict[str, dict[int, _Session]] = {}
        self._greedy: GreedyAnswers | None = None

    def read_greedy_rows_of(self, buffer: GreedyAnswers) -> None:
        """Keep also the greedy answers that `buffer` takes out of the batches, until the samples are written."""
        self._greedy, buffer.keeps_greedy_rows = buffer, True

    def add(self, batch: KVBatchMeta, scores: Tensor, dropped: Tensor | None = None) -> None:
        """Add the rows of a batch with their `scores` (B,) and which of them are `dropped` (B,), by default none."""
        drops = dropped.tolist() if dropped is not None else [False] * len(batch)
        for key, tag, score, is_dropped in zip(batch.keys, batch.tags, scores.tolist(), drops, strict=True):
            if tag.get("is_padding"):
                continue
            uid, number, row = key.rsplit("_", 2)
            session = self._sessions.setdefault(uid, {}).setdefault(int(number), _Session())
            session.rows[int(row)] = key
            session.dropped |= is_dropped
            if int(row) == max(session.rows):
                session.score = score

    def write(self, step: int, partition_id: str, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write the samples of the step.

        Raises:
            OSError: the disk is full; another problem of the disk is a warning
        """
        samples = self._samples(step, partition_id, tokenizer)
        self._sessions = {}
        if self._greedy is not None:
            self._greedy.clear_greedy_rows()
        try:
            self._files.write(step, samples, self._options.max_megabytes * 2**20)
        except OSError as error:
            if error.errno in FULL_DISK:
                raise
            logger.warning("the samples of step %d are not kept: %s", step, error)

    def _samples(self, step: int, partition_id: str, tokenizer: PreTrainedTokenizerBase) -> list[PromptSample]:
        groups = choose_groups(self._groups(), self._options.groups_per_step)
        chosen = {group.uid: choose_answers(group, self._options.answers_per_group) for group in groups}
        greedy = self._greedy.scored_greedy_rows if self._greedy is not None else {}
        baselines = {uid: greedy[uid] for uid in chosen if uid in greedy}
        # Read separately: the greedy rows have fewer fields.
        rows = read_rows(
            (key for answers in chosen.values() for answer in answers for key in answer.keys), partition_id
        )
        rows |= read_rows((key for found in baselines.values() for key in found), partition_id)
        builder = SampleBuilder(rows, tokenizer, token_limit(rows, self._options.tokens_per_step), self._max_tokens)
        return [builder.sample(step, group, chosen[group.uid], baselines.get(group.uid, ())) for group in groups]

    def _groups(self) -> Iterable[Group]:
        for uid, sessions in self._sessions.items():
            answers = [
                Candidate(number, session.score, tuple(key for _, key in sorted(session.rows.items())), session.dropped)
                for number, session in sorted(sessions.items())
            ]
            yield Group(uid, answers)


def recorder_of(config: DictConfig) -> SampleRecorder | None:
    """Return the recorder of this run; None if it keeps no samples or `reinforcepp` did not start it."""
    options, attempt = read_samples(config), Attempt.of_this_process()
    if attempt is None or not options.groups_per_step:
        return None
    max_tokens = int(value(config, keys.ROLLOUT_RESPONSE_LENGTH))
    return SampleRecorder(options, SampleFiles(attempt.run.samples), max_tokens)
