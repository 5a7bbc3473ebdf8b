"""The table of sources that can be prepared: their hub ids and column names.

A column is a dotted path, `reward_model.ground_truth` or `prompt.0.content`. A split lists the candidate splits of the
source; the first one that exists is used. The formats are those of the hub in 2025.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from reinforcepp_verl.data import answers, rows

TRAIN, TEST = "train", "test"
# Text before and after each question in DAPO-Math-17k.
DAPO_HEAD = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
DAPO_TAIL = '\n\nRemember to put your answer on its own line after "Answer:".'


@dataclass(frozen=True, kw_only=True)
class Source:
    """Origin of the rows, and their names in verl."""

    name: str
    about: str
    hub: str
    subset: str | None = None
    splits: Mapping[str, tuple[str, ...]]
    data_source: str
    ability: str
    schema: pa.Schema

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Questions(Source):
    """Questions with one correct answer each. `wrapping` is removed from both ends of a question."""

    ability: str = "math"
    schema: pa.Schema = rows.QUESTIONS
    question: str = "problem"
    wrapping: tuple[str, str] = ("", "")
    answer: str = "answer"
    extract: Callable[[str], str] = answers.plain
    template: str = "boxed"

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        return self.question, self.answer


@dataclass(frozen=True, kw_only=True)
class Pairs(Source):
    """Pairs of responses, one of them preferred: whole chats, or answers to the `prompt` column."""

    ability: str = "preference"
    schema: pa.Schema = rows.PAIRS
    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        return self.chosen, self.rejected


_TABLE: tuple[Source, ...] = (
    Questions(
        name="gsm8k",
        about="school mathematics in words, answers after ####",
        hub="openai/gsm8k",
        subset="main",
        splits={TRAIN: ("train",), TEST: ("test",)},
        data_source="openai/gsm8k",
        question="question",
        extract=answers.after_hashes,
        template="hashes",
    ),
    Questions(
        name="math",
        about="competition mathematics with worked solutions",
        hub="DigitalLearningGmbH/MATH-lighteval",
        splits={TRAIN: ("train",), TEST: ("test",)},
        data_source="DigitalLearningGmbH/MATH-lighteval",
        answer="solution",
        extract=answers.last_boxed,
    ),
    Questions(
        name="math500",
        about="500 questions of math's test split",
        hub="HuggingFaceH4/MATH-500",
        splits={TEST: ("test",)},
        data_source="HuggingFaceH4/MATH-500",
    ),
    Questions(
        name="dapo_math_17k",
        about="17,000 questions with integer answers, each repeated a hundred times on the hub",
        hub="BytedTsinghua-SIA/DAPO-Math-17k",
        splits={TRAIN: ("train",)},
        data_source="math_dapo",
        question="prompt.0.content",
        wrapping=(DAPO_HEAD, DAPO_TAIL),
        answer="reward_model.ground_truth",
    ),
    Questions(
        name="deepscaler",
        about="40,000 questions of AIME, AMC, Omni-MATH and STILL",
        hub="agentica-org/DeepScaleR-Preview-Dataset",
        splits={TRAIN: ("train",)},
        data_source="agentica-org/DeepScaleR-Preview-Dataset",
    ),
    Questions(
        name="aime24",
        about="the 30 questions of 2024",
        hub="HuggingFaceH4/aime_2024",
        splits={TEST: ("train",)},
        data_source="aime24",
        extract=answers.integer,
    ),
    Questions(
        name="aime25",
        about="the 30 questions of 2025",
        hub="math-ai/aime25",
        splits={TEST: ("test",)},
        data_source="aime25",
        extract=answers.integer,
    ),
    Pairs(
        name="preferences",
        about="pairs of chosen and rejected chats, for a Bradley-Terry reward model",
        hub="hendrydong/preference_700K",
        splits={TRAIN: ("train_prefs", "train"), TEST: ("test_prefs", "test")},
        data_source="hendrydong/preference_700K",
    ),
)
SOURCES: Mapping[str, Source] = {source.name: source for source in _TABLE}
