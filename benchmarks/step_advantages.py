"""Mean advantages of right / wrong steps by their place in the answer, under several estimators and step scores.

    reinforcepp prepare running_sums
    python benchmarks/step_advantages.py

Samples answers of the prepared model, scores their steps with the recipe's reward, and computes advantages without KL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from reinforcepp_verl.algorithm import estimators
from reinforcepp_verl.algorithm.batch import RewardBatch
from reinforcepp_verl.algorithm.normalize import Estimate
from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.rewards.running_sums import compute_score
from reinforcepp_verl.rewards.step_scores import token_scores_of
from reinforcepp_verl.tasks.running_sums_task import NUMBERS

ANSWERS, MAX_TOKENS = 4, 16
STEPS = NUMBERS - 1
DEFAULT = ReinforceppOptions()
Estimator = Callable[[RewardBatch], Estimate]


@dataclass(frozen=True)
class Answers:
    """Sampled answers with the right number of steps: all (B, T), but the prompts (B,)."""

    mask: Tensor
    scores: Tensor
    marks: Tensor
    prompts: Tensor

    def batch(self, change: Callable[[Tensor], Tensor]) -> RewardBatch:
        """Return them with changed step scores."""
        scores = torch.where(self.marks, change(self.scores), 0.0)
        return RewardBatch(scores, self.mask, group_index=self.prompts, score_mask=self.marks)


def sampled(folder: Path, prompts: int, seed: int) -> Answers:
    """Sample answers to the first training questions."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    rows = pq.read_table(folder / "train.parquet").slice(0, prompts).to_pylist()
    chats = [tokenizer.apply_chat_template(row["prompt"], tokenize=False) for row in rows]
    batch = tokenizer(chats, add_special_tokens=False, return_tensors="pt")
    torch.manual_seed(seed)
    tokens = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        max_new_tokens=MAX_TOKENS,
        do_sample=True,
        top_k=0,
        num_return_sequences=ANSWERS,
    )[:, batch["input_ids"].shape[1] :]
    return _scored(tokens, [row["reward_model"]["ground_truth"] for row in rows], tokenizer)


def _scored(tokens: Tensor, truths: list[str], tokenizer: PreTrainedTokenizerBase) -> Answers:
    mask = tokens != tokenizer.pad_token_id
    scores, marks = torch.zeros(tokens.shape), torch.zeros(tokens.shape, dtype=torch.bool)
    for row, ids in enumerate(tokens.tolist()):
        ids = ids[: int(mask[row].sum())]
        text = tokenizer.decode(ids, skip_special_tokens=True)
        steps = compute_score("", text, truths[row // ANSWERS]).get("step_scores", [])
        for token, score in token_scores_of(steps, text, ids, tokenizer) if steps else []:
            scores[row, token], marks[row, token] = score, True
    usual = marks.sum(1) == STEPS
    return Answers(mask[usual], scores[usual], marks[usual], (torch.arange(len(tokens)) // ANSWERS)[usual])


def row_of(name: str, advantages: Tensor, answers: Answers) -> list[str]:
    """Return the mean advantage of right and of wrong steps at each place, and of the end of sequence."""
    cells = []
    place = answers.marks.cumsum(1) * answers.marks
    for step in range(1, STEPS + 1):
        here = place == step
        right, wrong = (advantages[here & (answers.scores > 0)], advantages[here & (answers.scores <= 0)])
        cells.append(f"{right.mean():+.2f} / {wrong.mean():+.2f}")
    end = answers.mask & (answers.marks.cumsum(1) == STEPS) & ~answers.marks
    return [name, *cells, f"{advantages[end].mean():+.2f}"]


def main(
    folder: Annotated[Path, typer.Option(help="The prepared task.")] = Path("data/running_sums"),
    prompts: Annotated[int, typer.Option(help="Prompts, with 4 answers each.")] = 256,
    seed: int = 1,
) -> None:
    """Print a table."""
    answers = sampled(folder, prompts, seed)
    share = 1 / STEPS
    zero_one, plus_minus = answers.batch(lambda s: s), answers.batch(lambda s: 2 * s - share)
    to_go = partial(estimators.reinforcepp, options=DEFAULT)
    cases: list[tuple[str, Estimator, RewardBatch]] = [
        ("reinforcepp, 0 or 1/3", to_go, zero_one),
        ("reinforcepp, -1/3 or 1/3", to_go, plus_minus),
        ("reinforcepp, 0 or 1/3, gamma 0.5", partial(to_go, gamma=0.5), zero_one),
        ("reinforcepp_baseline, 0 or 1/3", partial(estimators.reinforcepp_baseline, options=DEFAULT), zero_one),
    ]
    table = Table("step scores", *[f"step {n + 1}" for n in range(STEPS)], "end", box=box.SIMPLE_HEAD)
    for name, estimator, batch in cases:
        table.add_row(*row_of(name, estimator(batch).advantages, answers))
    place = answers.marks.cumsum(1) * answers.marks
    shares = [f"{(answers.scores[place == n + 1] > 0).float().mean():.0%}" for n in range(STEPS)]
    table.add_row("share of right steps", *shares, "")
    Console(width=100).print(table)
    print(f"{len(answers.mask)} answers, {(answers.scores[answers.marks] > 0).float().mean():.1%} of their steps right")


if __name__ == "__main__":
    typer.run(main)
