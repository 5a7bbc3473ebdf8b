r"""The tokenizer and warm-started model of the word problems: its sloppy teacher solves many problems incorrectly.

That teacher also sometimes omits the \boxed{} around the answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Regex, pre_tokenizers
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from reinforcepp_verl.data.prompt_templates import Template
from reinforcepp_verl.data.rows import Message, Row
from reinforcepp_verl.rewards.math import compute_score
from reinforcepp_verl.tasks import small_tokenizer, warm_start
from reinforcepp_verl.tasks.warm_start import Accuracy, Progress, WarmStart, next_tokens, reproducible
from reinforcepp_verl.tasks.word_templates import Problem, Working

MAX_ANSWER_TOKENS = 32
# A word includes the spaces around it; every digit is a separate token.
_PIECES = r"\\[a-z]+\{?|\}\{| ?[A-Za-z]+ ?|, |[\s\S]"
_PROBE_QUESTIONS = 192


@dataclass(frozen=True)
class WordProblemWarmStart(WarmStart):
    """Error rates of the sloppy teacher, for the solution and for the box."""

    careful_steps: int = 300
    mastery: float = 0.97
    sloppy_steps: int = 60
    sloppy_learning_rate: float = 3e-4
    wrong: float = 0.4
    unboxed: float = 0.15


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Build a tokenizer of the words, digits and signs in the texts, with a chat template with roles."""
    split = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    pieces = {piece for text in texts for piece, _ in split.pre_tokenize_str(text)}
    return small_tokenizer.of_chats(sorted(pieces), split, max_length=128)


def answer_text(working: Working, *, boxed: bool = True) -> str:
    """Return the text of an answer in a chat."""
    return rf"{working.line} so \boxed{{{working.answer}}}" if boxed else f"{working.line} so {working.answer}"


def texts(problems: Iterable[Problem], template: Template) -> Iterator[str]:
    """Yield all text that the tokenizer must cover: roles, questions, and every answer that a teacher may give."""
    yield from ("assistant", "\n")
    for problem in problems:
        for message in template.chat(problem.question):
            yield from (message["role"], message["content"])
        for working in (*problem.right, *problem.wrong):
            yield from (answer_text(working), answer_text(working, boxed=False))


def train(
    problems: Sequence[Problem],
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    settings: WordProblemWarmStart,
    progress: Progress | None = None,
) -> LlamaForCausalLM:
    """Train a model to answer the prompts of the rows, which are the problems as in the rollout."""
    demonstrations = _Demonstrations(problems, rows, tokenizer, settings)
    probe = random.Random(seed).sample(rows, _PROBE_QUESTIONS)
    return warm_start.train(
        tokenizer,
        demonstrations.batch,
        lambda model: _accuracy(model, tokenizer, probe, sample=True),
        seed=seed,
        settings=settings,
        progress=progress,
    )


class _Demonstrations:
    """Draws problems and solves them like one of the teachers."""

    def __init__(
        self,
        problems: Sequence[Problem],
        rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerFast,
        settings: WordProblemWarmStart,
    ) -> None:
        self.problems, self.tokenizer, self.settings = problems, tokenizer, settings
        self.prompts = _encode(tokenizer, [prompt_text(tokenizer, row["prompt"]) for row in rows])

    def batch(self, size: int, generator: torch.Generator, *, sloppy: bool) -> tuple[Tensor, Tensor]:
        """Return `size` sequences `(B, T)` and the next token of each position within the answer."""
        drawn = torch.randint(len(self.problems), (size,), generator=generator).tolist()
        chances = torch.rand(size, 3, generator=generator).tolist()
        answers = [self._answer(self.problems[i], chance, sloppy) for i, chance in zip(drawn, chances, strict=True)]
        prompts = [self.prompts[i] for i in drawn]
        eos, pad = int(self.tokenizer.eos_token_id), int(self.tokenizer.pad_token_id)
        return next_tokens(prompts, _encode(self.tokenizer, answers), eos, pad)

    def _answer(self, problem: Problem, chances: Sequence[float], sloppy: bool) -> str:
        err, forget, which = chances
        workings = problem.wrong if sloppy and err < self.settings.wrong else problem.right
        boxed = not (sloppy and forget < self.settings.unboxed)
        return answer_text(workings[int(which * len(workings))], boxed=boxed)


def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: Sequence[Row], seed: int) -> Accuracy:
    """Answer the prompts of the rows, sampled and greedily, and score the answers with the math reward."""
    with reproducible(seed):
        return Accuracy(*(_accuracy(model, tokenizer, rows, sample=sample) for sample in (True, False)))


def prompt_text(tokenizer: PreTrainedTokenizerFast, chat: list[Message]) -> str:
    """Return a chat as model input."""
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))


def _encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


@torch.no_grad()
def _accuracy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: Sequence[Row], *, sample: bool
) -> float:
    prompts = [prompt_text(tokenizer, row["prompt"]) for row in rows]
    batch = tokenizer(prompts, add_special_tokens=False, padding=True, return_tensors="pt")
    tokens = model.generate(  # type: ignore[misc]  # transformers declares it for its own protocol
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        max_new_tokens=MAX_ANSWER_TOKENS,
        do_sample=sample,
        top_k=0 if sample else None,
        temperature=1.0 if sample else None,
    )
    texts = tokenizer.batch_decode(tokens[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return sum(_right(row, text) for row, text in zip(rows, texts, strict=True)) / len(rows)


def _right(row: Row, text: str) -> float:
    score = compute_score(row["data_source"], text, row["reward_model"]["ground_truth"], workers=1)
    return float(score["acc"])
