"""The preferences between packing lists: what the labeler likes, the Bradley-Terry training, and the folder."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from verl.utils import hf_tokenizer
from verl.utils.tokenizer import normalize_token_ids

from reinforcepp_verl.rewards.packing_list import quality
from reinforcepp_verl.tasks import bradley_terry, preferences_toy_task
from reinforcepp_verl.tasks.bradley_terry import RewardModelTraining
from reinforcepp_verl.tasks.packing_lists import (
    LONGEST_ANSWER,
    THINGS,
    TRIPS,
    Labeler,
    PackingList,
    Preference,
    preferences,
    sloppy_answer,
    split_questions,
)
from reinforcepp_verl.tasks.packing_model import PackingWarmStart, build_tokenizer, chance_of_best, encode
from reinforcepp_verl.tasks.preferences_toy_task import TASK, PreferencesToySettings
from reinforcepp_verl.tasks.warm_start import build_model

TINY = PackingWarmStart(hidden_size=32, layers=1, careful_steps=3, sloppy_steps=2, batch_size=8)
TINY_TRAINING = RewardModelTraining(steps=3, batch_size=8)
TINY_SETTINGS = PreferencesToySettings(TINY, TINY_TRAINING)
QUESTION = PackingList("beach", "snow")
BEST = "towel hat sunscreen gloves scarf skis"


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def small():
    """Make the task with few pairs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preferences_toy_task, "TRAIN_PAIRS", 32)
        patch.setattr(preferences_toy_task, "TEST_PAIRS", 16)
        yield


@pytest.fixture(scope="module")
def product(tmp_path_factory, small):
    out = tmp_path_factory.mktemp("product") / "preferences_toy"
    TASK.prepare(out, seed=5, settings=TINY_SETTINGS)
    return out


def some_preferences(count: int, labeler: Labeler, seed: int = 0) -> list[Preference]:
    return list(preferences(split_questions(1)[0], count, labeler, random.Random(seed)))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (BEST, 1.0),
        ("skis scarf gloves sunscreen hat towel", 1.0),
        ("towel hat sunscreen", 0.5),
        ("towel towel hat sunscreen", 0.4),
        (f"{BEST} tent lamp", 0.8),
        ("tent", -0.1),
        ("", 0.0),
    ],
)
def test_quality_is_the_share_of_wanted_things_less_other_words(answer, expected):
    assert quality(QUESTION.things, answer.split()) == pytest.approx(expected)


def test_questions_are_all_pairs_of_trips_split_without_overlap():
    train, val = split_questions(seed=1)
    assert (len(train), len(val), len({*train, *val})) == (48, 8, 56)
    assert split_questions(1) == split_questions(1) != split_questions(2)
    assert len(set(THINGS)) == 24 and not set(THINGS) & set(TRIPS)
    assert QUESTION.messages == [{"role": "user", "content": "pack for beach and snow"}]
    assert " ".join(QUESTION.things) == BEST


def test_sloppy_answers_forget_and_add():
    draw = random.Random(0)
    assert sloppy_answer(QUESTION, 0.0, 0.0, draw) == BEST.split()
    assert len(sloppy_answer(QUESTION, 1.0, 0.0, draw)) == 1, "never empty"
    assert len(sloppy_answer(QUESTION, 0.0, 0.99, draw)) == LONGEST_ANSWER
    answers = [sloppy_answer(QUESTION, 0.25, 0.0, draw) for _ in range(2000)]
    assert sum(map(len, answers)) / 2000 == pytest.approx(6 * 0.75, rel=0.03)


def test_the_labeler_is_impressed_by_length():
    labeler = Labeler(quality_weight=8.0, length_weight=1.2)
    best, padded, short = BEST.split(), [*BEST.split(), "tent"], BEST.split()[:3]
    assert labeler.utility(QUESTION, best) == pytest.approx(8 + 7.2)
    assert labeler.utility(QUESTION, padded) == pytest.approx(8 * 0.9 + 8.4)
    assert labeler.utility(QUESTION, short) == pytest.approx(4 + 3.6)
    draw = random.Random(0)
    preferred = sum(labeler.prefers_first(QUESTION, padded, best, draw) for _ in range(4000)) / 4000
    assert preferred == pytest.approx(1 / (1 + math.exp(-0.4)), abs=0.02)


def test_preferences_follow_the_labeler_and_the_seed():
    fair, biased = Labeler(quality_weight=1000.0, length_weight=0.0), Labeler(quality_weight=0.0, length_weight=1000.0)
    for found in some_preferences(200, fair):
        assert found.qualities[0] >= found.qualities[1]
    for found in some_preferences(200, biased):
        assert len(found.chosen.split()) >= len(found.rejected.split())
    assert all(found.chosen != found.rejected for found in some_preferences(200, fair))
    assert some_preferences(20, fair) == some_preferences(20, fair) != some_preferences(20, fair, seed=1)


def test_bradley_terry_loss_by_hand():
    chosen, rejected = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 3.0])
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(3))) / 2
    assert bradley_terry.loss(chosen, rejected).item() == pytest.approx(expected)
    assert bradley_terry.loss(chosen + 7, rejected + 7).item() == pytest.approx(expected)


def test_a_new_reward_model_has_one_label_the_policys_weights_and_no_opinion(tokenizer):
    policy = build_model(tokenizer, TINY)
    model = bradley_terry.build_model(policy)
    assert model.config.num_labels == 1 and policy.config.num_labels == 2
    assert torch.equal(model.model.embed_tokens.weight, policy.model.embed_tokens.weight)
    pairs = bradley_terry.encode(tokenizer, [preferences_toy_task._chats(some_preferences(1, Labeler())[0])])
    assert bradley_terry.scores(model, pairs).tolist() == [[0.0, 0.0]]


def test_a_score_does_not_depend_on_padding(tokenizer):
    torch.manual_seed(0)
    model = bradley_terry.build_model(build_model(tokenizer, TINY)).eval()
    torch.nn.init.normal_(model.score.weight)
    pairs = bradley_terry.encode(tokenizer, list(map(preferences_toy_task._chats, some_preferences(16, Labeler()))))
    assert len(set(pairs.lengths.flatten().tolist())) > 1
    with torch.no_grad():
        together = bradley_terry.scores(model, pairs)
        alone = [
            [model(input_ids=tokens[None, :length]).logits.item() for tokens, length in zip(*pair, strict=True)]
            for pair in zip(pairs.tokens, pairs.lengths.tolist(), strict=True)
        ]
    assert torch.allclose(together, torch.tensor(alone), atol=1e-6)
    assert torch.allclose(bradley_terry.margins(model, pairs), together[:, 0] - together[:, 1], atol=1e-6)


def test_the_training_learns_what_the_labeler_prefers_and_is_reproducible(tokenizer):
    labeler = Labeler(quality_weight=0.0, length_weight=1000.0)
    pairs = bradley_terry.encode(tokenizer, list(map(preferences_toy_task._chats, some_preferences(256, labeler))))
    settings = RewardModelTraining(steps=40, batch_size=32, learning_rate=3e-3, warmup_steps=5)
    policy, state = build_model(tokenizer, TINY), torch.random.get_rng_state()
    first, second, other = (bradley_terry.train(policy, pairs, seed=seed, settings=settings) for seed in (1, 1, 2))
    assert (bradley_terry.margins(first, pairs) > 0).double().mean() > 0.9
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(one, two) for one, two in zip(first.parameters(), other.parameters(), strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_chance_of_the_best_answer(tokenizer):
    model = build_model(tokenizer, TINY)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert chance_of_best(model, tokenizer, [QUESTION]) == pytest.approx(len(tokenizer) ** -7, rel=1e-4)


def test_targets_are_the_answer_and_the_end_token(tokenizer):
    tokens, targets = encode(tokenizer, [QUESTION, QUESTION], [BEST, "hat"])
    assert tokens.shape == targets.shape
    known = [[token for token in row if token != tokenizer.pad_token_id] for row in targets.tolist()]
    assert [tokenizer.decode(row) for row in known] == [f"{BEST} <|im_end|>", "hat <|im_end|>"]


def test_verl_loads_both_models_and_the_tokenizer(product):
    loaded = hf_tokenizer(str(product / "reward_model"))
    ids = normalize_token_ids(loaded.apply_chat_template(QUESTION.messages, add_generation_prompt=True, tokenize=True))
    words = ["<|im_start|>", "user", "pack", "for", "beach", "and", "snow", "<|im_end|>", "<|im_start|>", "assistant"]
    assert loaded.convert_ids_to_tokens(ids) == words
    chat = [*QUESTION.messages, {"role": "assistant", "content": BEST}]
    whole = loaded(loaded.apply_chat_template(chat, tokenize=False), add_special_tokens=False)["input_ids"]
    assert loaded.convert_ids_to_tokens(whole) == [*words, *BEST.split(), "<|im_end|>"]
    assert loaded.decode(whole[len(words) :], skip_special_tokens=True) == BEST
    model = AutoModelForSequenceClassification.from_pretrained(product / "reward_model")
    assert (model.config.architectures, model.config.num_labels) == (["LlamaForSequenceClassification"], 1)
    assert model.config.pad_token_id == AutoTokenizer.from_pretrained(product / "model").pad_token_id
    AutoModelForCausalLM.from_pretrained(product / "model")


def test_prepare_writes_a_complete_product(product):
    assert {path.name for path in product.iterdir()} == TASK.contents
    manifest = json.loads((product / "manifest.json").read_text())
    assert manifest["accuracy"].keys() == {"by_label", "by_quality", "labeler_by_quality"}
    prompts = pq.read_table(product / "train.parquet").to_pylist()
    assert len(prompts) == 48 * 16
    assert [row["extra_info"]["index"] for row in prompts] == list(range(len(prompts)))
    for row in prompts[:48]:
        assert row["reward_model"]["ground_truth"].split()[0] in THINGS
    pairs = pq.read_table(product / "pairs" / "test.parquet").to_pylist()
    assert len(pairs) == 16
    for pair in pairs:
        assert pair["prompt"] == pair["chosen"][:1] == pair["rejected"][:1]
        wanted, given = pair["reward_model"]["ground_truth"].split(), pair["chosen"][1]["content"].split()
        assert pair["chosen_quality"] == quality(wanted, given)


def test_prepare_writes_the_same_bytes_again_and_keeps_what_exists(product, small, tmp_path):
    steps: list[tuple[int, int]] = []
    for _ in range(2):
        TASK.prepare(
            tmp_path / "again",
            seed=5,
            settings=TINY_SETTINGS,
            progress=lambda *step: steps.append(step),
        )
    assert steps == [(step, 8) for step in range(1, 9)]
    files = sorted(path.relative_to(product) for path in product.rglob("*") if path.is_file())
    assert all((product / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in files)


def test_command_closes_with_the_accuracies(reinforcepp, small, monkeypatch, tmp_path):
    monkeypatch.setattr(preferences_toy_task, "TASK", replace(TASK, settings=lambda: TINY_SETTINGS))
    command = ["prepare", "preferences_toy", "--out", str(tmp_path / "out")]
    made = reinforcepp(*command)
    assert made.exit_code == 0
    for text in ("accuracy by label", "accuracy by true quality", "the labeler's own", "seconds"):
        assert text in made.stdout
    refused = reinforcepp(*command, "--template", "boxed")
    assert refused.exit_code == 2
    assert "preferences_toy does not use --template; remove it" in refused.stderr
