"""Generates prompts, preference pairs with a length bias, a policy, and a reward model trained on the pairs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerFast

from reinforcepp_verl.data.rows import PAIRS, QUESTIONS, Row
from reinforcepp_verl.tasks import bradley_terry, packing_model
from reinforcepp_verl.tasks.bradley_terry import Chat, RewardModelTraining
from reinforcepp_verl.tasks.packing_lists import Labeler, PackingList, Preference, preferences, split_questions
from reinforcepp_verl.tasks.packing_model import PackingWarmStart
from reinforcepp_verl.tasks.question_files import save_model
from reinforcepp_verl.tasks.task_folder import Manifest, ToyTask
from reinforcepp_verl.tasks.warm_start import Progress

DATA_SOURCE = "reinforcepp/packing_lists"
TRAIN_PAIRS, TEST_PAIRS = 8192, 1024
REPEATED = 16
"""How often each prompt is in its file."""
QUALITIES = pa.schema([*PAIRS, ("chosen_quality", pa.float64()), ("rejected_quality", pa.float64())])


@dataclass(frozen=True)
class PreferencesToySettings:
    """How the policy and the reward model are trained, and who labels the pairs."""

    policy: PackingWarmStart = field(default_factory=PackingWarmStart)
    reward_model: RewardModelTraining = field(default_factory=RewardModelTraining)
    labeler: Labeler = field(default_factory=Labeler)

    @property
    def steps(self) -> int:
        """Maximum number of steps of both trainings."""
        return self.policy.steps + self.reward_model.steps


def _make(folder: Path, seed: int, settings: PreferencesToySettings, progress: Progress | None) -> Manifest:
    train, val = split_questions(seed)
    draw = random.Random(f"preferences {seed}")
    known, held_out = (list(preferences(train, count, settings.labeler, draw)) for count in (TRAIN_PAIRS, TEST_PAIRS))
    (folder / "pairs").mkdir()
    _write(folder / "train.parquet", [_row(question, "train") for question in train * REPEATED], QUESTIONS)
    _write(folder / "val.parquet", [_row(question, "val") for question in val * REPEATED], QUESTIONS)
    _write(folder / "pairs" / "train.parquet", [_pair(found, "train") for found in known], QUALITIES)
    _write(folder / "pairs" / "test.parquet", [_pair(found, "test") for found in held_out], QUALITIES)
    tokenizer = packing_model.build_tokenizer()
    reports = [_part_of(progress, before, settings.steps) for before in (0, settings.policy.steps)]
    policy = packing_model.train(train, tokenizer, seed=seed, settings=settings.policy, progress=reports[0])
    pairs = bradley_terry.encode(tokenizer, [_chats(found) for found in known])
    reward_model = bradley_terry.train(policy, pairs, seed=seed, settings=settings.reward_model, progress=reports[1])
    save_model(policy, tokenizer, folder / "model")
    save_model(reward_model, tokenizer, folder / "reward_model")
    return {
        "train_questions": len(train),
        "val_questions": len(val),
        "train_pairs": len(known),
        "test_pairs": len(held_out),
        "policy_parameters": policy.num_parameters(),
        "reward_model_parameters": reward_model.num_parameters(),
        "accuracy": accuracies(reward_model, tokenizer, held_out),
    }


def _part_of(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Return what reports the progress of one training of several."""
    return progress and (lambda done, _: progress(before + done, total))


def accuracies(
    model: LlamaForSequenceClassification, tokenizer: PreTrainedTokenizerFast, held_out: Sequence[Preference]
) -> dict[str, float]:
    """Return how often the model prefers the chosen answer, and how often the better one of two different qualities.

    `labeler_by_quality` is how often the labeler chose the better one: what a perfect model of the labeler reaches.
    """
    margins = bradley_terry.margins(model, bradley_terry.encode(tokenizer, [_chats(found) for found in held_out]))
    chosen, rejected = torch.tensor([found.qualities for found in held_out], dtype=torch.float64).unbind(1)
    differs = chosen != rejected
    found = {
        "by_label": margins > 0,
        "by_quality": ((margins > 0) == (chosen > rejected))[differs],
        "labeler_by_quality": (chosen > rejected)[differs],
    }
    return {name: round(right.double().mean().item(), 4) for name, right in found.items()}


def _row(question: PackingList, split: str) -> Row:
    return {
        "data_source": DATA_SOURCE,
        "prompt": question.messages,
        "ability": "preferences",
        "reward_model": {"style": "model", "ground_truth": " ".join(question.things)},
        "extra_info": {"split": split, "index": 0, "question": question.messages[0]["content"]},
    }


def _pair(found: Preference, split: str) -> Row:
    chosen, rejected = _chats(found)
    good, bad = found.qualities
    qualities = {"chosen_quality": good, "rejected_quality": bad}
    return {**_row(found.question, split), "chosen": chosen, "rejected": rejected, **qualities}


def _chats(found: Preference) -> tuple[Chat, Chat]:
    chosen, rejected = (
        [*found.question.messages, {"role": "assistant", "content": answer}]
        for answer in (found.chosen, found.rejected)
    )
    return chosen, rejected


def _write(file: Path, rows: list[Row], schema: pa.Schema) -> None:
    """Write rows with their numbers; the same rows give the same bytes."""
    numbered = [row | {"extra_info": row["extra_info"] | {"index": index}} for index, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(numbered, schema=schema), file)


def _summary(manifest: Manifest) -> dict[str, str]:
    """Return the manifest as rows of a table."""
    accuracy = manifest["accuracy"]
    return {
        "prompts": f"{manifest['train_questions']} for training, {manifest['val_questions']} for validation",
        "preference pairs": f"{manifest['train_pairs']:,}, and {manifest['test_pairs']:,} held out",
        "policy parameters": f"{manifest['policy_parameters']:,}",
        "reward model parameters": f"{manifest['reward_model_parameters']:,}",
        "held-out pairs, accuracy by label": f"{accuracy['by_label']:.1%}",
        "held-out pairs, accuracy by true quality": f"{accuracy['by_quality']:.1%}",
        "the labeler's own, by true quality": f"{accuracy['labeler_by_quality']:.1%}",
    }


TASK = ToyTask(
    product="reinforcepp-preferences-toy",
    version=1,
    title="preferences between packing lists",
    doing="training a policy, then a reward model",
    contents=frozenset({"train.parquet", "val.parquet", "pairs", "model", "reward_model", "manifest.json"}),
    settings=PreferencesToySettings,
    make=_make,
    summary=_summary,
)
