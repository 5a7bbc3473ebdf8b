"""The table of sources that can be prepared: their hub ids and column names.

The formats are those of the hub in 2025. `max_unusable` is larger where questions without an answer are part of the
source.
"""

from __future__ import annotations

from collections.abc import Mapping

from reinforcepp_verl.data import answers, transcripts
from reinforcepp_verl.data.source_kinds import TEST, TRAIN, Pairs, Questions, Source

# Text before and after each question in DAPO-Math-17k.
DAPO_HEAD = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
DAPO_TAIL = '\n\nRemember to put your answer on its own line after "Answer:".'
# Besides problem and answer.
AIME_LAYOUTS = (("Problem", "Answer"), ("question", "answer"))

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
        name="dapo_math_17k_processed",
        about="the same questions once each, without the instructions",
        hub="open-r1/DAPO-Math-17k-Processed",
        subset="all",
        splits={TRAIN: ("train",)},
        data_source="math_dapo",
        question="prompt",
        wrapping=(DAPO_HEAD, DAPO_TAIL),
        answer="solution",
    ),
    Questions(
        name="deepscaler",
        about="40,000 questions of AIME, AMC, Omni-MATH and STILL",
        hub="agentica-org/DeepScaleR-Preview-Dataset",
        splits={TRAIN: ("train",)},
        data_source="agentica-org/DeepScaleR-Preview-Dataset",
    ),
    Questions(
        name="big_math",
        about="250,000 questions with closed-form answers; access must be requested on the hub",
        hub="SynthLabsAI/Big-Math-RL-Verified",
        splits={TRAIN: ("train",)},
        data_source="SynthLabsAI/Big-Math-RL-Verified",
    ),
    Questions(
        name="open_r1_math",
        about="94,000 questions of NuminaMath 1.5 that DeepSeek-R1 has solved",
        hub="open-r1/OpenR1-Math-220k",
        subset="default",
        splits={TRAIN: ("train",)},
        data_source="open-r1/OpenR1-Math-220k",
        extract=answers.stated,
    ),
    Questions(
        name="numina_math",
        about="900,000 competition questions (1.5); proofs and questions without an answer are left out",
        hub="AI-MO/NuminaMath-1.5",
        splits={TRAIN: ("train",)},
        data_source="AI-MO/NuminaMath-1.5",
        extract=answers.stated,
        max_unusable=0.5,
    ),
    Questions(
        name="numina_math_cot",
        about="860,000 competition questions (1.0) with worked solutions; those without a box are left out",
        hub="AI-MO/NuminaMath-CoT",
        splits={TRAIN: ("train",), TEST: ("test",)},
        data_source="AI-MO/NuminaMath-CoT",
        answer="solution",
        extract=answers.last_boxed,
        max_unusable=0.5,
    ),
    Questions(
        name="orz_math",
        about="57,000 questions of Open-Reasoner-Zero; a row is a list of two messages",
        hub="Open-Reasoner-Zero/orz_math_57k_collection",
        splits={TRAIN: ("train",)},
        data_source="Open-Reasoner-Zero/orz_math_57k_collection",
        question="0.value",
        answer="1.ground_truth.value",
    ),
    Questions(
        name="aime24",
        about="the 30 questions of 2024",
        hub="HuggingFaceH4/aime_2024",
        splits={TEST: ("train",)},
        data_source="aime24",
        extract=answers.integer,
        also=AIME_LAYOUTS,
    ),
    Questions(
        name="aime25",
        about="the 30 questions of 2025",
        hub="math-ai/aime25",
        splits={TEST: ("test",)},
        data_source="aime25",
        extract=answers.integer,
        also=AIME_LAYOUTS,
    ),
    Pairs(
        name="preferences",
        about="pairs of chosen and rejected chats, for a Bradley-Terry reward model",
        hub="hendrydong/preference_700K",
        splits={TRAIN: ("train_prefs", "train"), TEST: ("test_prefs", "test")},
        data_source="hendrydong/preference_700K",
    ),
    Pairs(
        name="hh_rlhf",
        about="Anthropic's pairs of dialogues about being helpful and harmless",
        hub="Anthropic/hh-rlhf",
        splits={TRAIN: ("train",), TEST: ("test",)},
        data_source="Anthropic/hh-rlhf",
        parse=transcripts.messages,
    ),
    Pairs(
        name="ultrafeedback",
        about="60,000 pairs of responses that GPT-4 has rated, binarized",
        hub="HuggingFaceH4/ultrafeedback_binarized",
        splits={TRAIN: ("train_prefs", "train"), TEST: ("test_prefs", "test")},
        data_source="HuggingFaceH4/ultrafeedback_binarized",
    ),
)
SOURCES: Mapping[str, Source] = {source.name: source for source in _TABLE}
