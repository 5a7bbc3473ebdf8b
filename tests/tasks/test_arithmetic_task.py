"""The addition task: its questions, its tokenizer as verl loads it, its warm start and its folder."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from verl.utils import hf_tokenizer
from verl.utils.tokenizer import normalize_token_ids

from reinforcepp_verl.rewards.arithmetic import compute_score
from reinforcepp_verl.tasks import arithmetic_model, arithmetic_task
from reinforcepp_verl.tasks.arithmetic_model import AdditionWarmStart, measure, noisy_sums, train
from reinforcepp_verl.tasks.arithmetic_question import Addition
from reinforcepp_verl.tasks.arithmetic_task import TASK, build_tokenizer, split_questions
from reinforcepp_verl.tasks.question_files import write_questions
from reinforcepp_verl.tasks.warm_start import build_model

TINY = AdditionWarmStart(hidden_size=32, layers=1, careful_steps=3, sloppy_steps=2, batch_size=8)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    out = tmp_path_factory.mktemp("product") / "arithmetic"
    TASK.prepare(out, seed=5, settings=TINY)
    return out


def test_questions_are_all_pairs_split_without_overlap():
    train_questions, val_questions = split_questions(seed=1)
    assert len(val_questions) == 512
    assert len({*train_questions, *val_questions}) == len(train_questions) + len(val_questions) == 8100
    assert {q.left for q in train_questions} == {q.right for q in train_questions} == set(range(10, 100))


def test_questions_depend_on_the_seed_alone():
    assert split_questions(seed=1) == split_questions(seed=1)
    assert split_questions(seed=1) != split_questions(seed=2)


def test_parquet_has_verls_schema_and_the_same_bytes_each_time(tmp_path):
    questions = [Addition(37, 58), Addition(99, 10)]
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_questions(arithmetic_task.DATA_SOURCE, questions, "val", tmp_path / name)
    first, second = (tmp_path / name / "val.parquet" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert pq.read_table(first).to_pylist()[0] == {
        "data_source": "reinforcepp/arithmetic",
        "prompt": [{"role": "user", "content": "37+58="}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "95"},
        "extra_info": {"split": "val", "index": 0},
    }


def test_verl_loads_the_tokenizer_and_encodes_a_prompt_by_character(product):
    loaded = hf_tokenizer(str(product / "model"))
    ids = normalize_token_ids(
        loaded.apply_chat_template(Addition(37, 58).messages, add_generation_prompt=True, tokenize=True)
    )
    assert loaded.convert_ids_to_tokens(ids) == ["<bos>", *"37+58="]
    assert len({loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id}) == 3


def test_tokenizer_round_trip_has_no_spaces(product, tokenizer):
    loaded = AutoTokenizer.from_pretrained(product / "model")
    for tok in (loaded, tokenizer):
        ids = tok("123+456=789", add_special_tokens=False)["input_ids"]
        assert len(ids) == 11
        assert tok.decode(ids) == "123+456=789"
        assert tok.decode([*ids, tok.eos_token_id, tok.pad_token_id], skip_special_tokens=True) == "123+456=789"


def test_answers_decode_to_the_ground_truth(tokenizer):
    questions = [Addition(10, 10), Addition(45, 54), Addition(50, 50), Addition(99, 99)]
    encoded = arithmetic_model.Encoder(tokenizer).answers(torch.tensor([q.left + q.right for q in questions]))
    for ids, question in zip(encoded, questions, strict=True):
        assert tokenizer.decode(ids).startswith(question.answer + "<eos>")
        text = tokenizer.decode(ids, skip_special_tokens=True)
        assert compute_score(arithmetic_task.DATA_SOURCE, text, question.answer)["score"] == 1.0


def test_model_is_small_and_in_fp32(tokenizer):
    model = build_model(tokenizer, AdditionWarmStart())
    assert model.num_parameters() <= 1_000_000
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_sloppy_teacher_forgets_carries_and_slips_on_the_last_digit():
    settings = AdditionWarmStart(forgotten_carry=1.0, wrong_last_digit=0.0)
    generator = torch.Generator().manual_seed(0)
    left, right = torch.tensor([37, 31, 99]), torch.tensor([58, 22, 99])
    assert noisy_sums(left, right, settings, generator).tolist() == [85, 53, 188]
    slips = noisy_sums(left, right, AdditionWarmStart(forgotten_carry=0.0, wrong_last_digit=1.0), generator)
    assert (slips // 10).tolist() == [9, 5, 19]
    assert not (slips == left + right).any()


def test_measured_accuracy_is_that_of_decoding(tokenizer):
    model = build_model(tokenizer, TINY)
    questions = split_questions(seed=1)[1][:16]
    assert measure(model, tokenizer, questions).greedy == 0.0
    answer_id = tokenizer.convert_tokens_to_ids("1")
    # A model that always answers "1" never ends a sequence, so no answer is right.
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[answer_id] = 1.0
    assert measure(model, tokenizer, questions).greedy == 0.0
    # Uniform logits: each of the three or four answer tokens has the chance 1/16.
    with torch.no_grad():
        model.lm_head.weight.zero_()
    expected = sum(len(tokenizer) ** -(len(q.answer) + 1) for q in questions) / len(questions)
    assert measure(model, tokenizer, questions).sampled == pytest.approx(expected)


def test_warm_start_is_reproducible_bit_for_bit(tokenizer):
    questions = split_questions(seed=1)[0]
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    first, second, other = (train(questions, tokenizer, seed=seed, settings=TINY).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_careful_teacher_stops_at_mastery(tokenizer):
    seen: list[tuple[int, int]] = []
    settings = AdditionWarmStart(hidden_size=32, layers=1, careful_steps=80, sloppy_steps=2, batch_size=8, mastery=0.0)
    questions = split_questions(seed=1)[0]
    train(questions, tokenizer, seed=1, settings=settings, progress=lambda *step: seen.append(step))
    assert seen == [*((step, 82) for step in range(1, 26)), (81, 82), (82, 82)]


def test_saved_model_reloads_with_identical_logits(product, tokenizer):
    trained = train(split_questions(seed=5)[0], tokenizer, seed=5, settings=TINY)
    loaded = AutoModelForCausalLM.from_pretrained(product / "model")
    ids = torch.tensor([[1, 7, 11, 14, 9, 12, 15]])
    assert torch.equal(trained(ids).logits, loaded(ids).logits)
    generation = GenerationConfig.from_pretrained(product / "model")
    assert (generation.eos_token_id, generation.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert (product / "model" / "model.safetensors").is_file()


def test_prepare_writes_a_complete_product_and_leaves_nothing_beside_it(product):
    assert {path.name for path in product.iterdir()} == TASK.contents
    assert [path.name for path in product.parent.iterdir()] == [product.name]
    manifest = json.loads((product / "manifest.json").read_text())
    assert (manifest["train_questions"], manifest["val_questions"]) == (7588, 512)
    assert pq.read_metadata(product / "train.parquet").num_rows == 7588


def test_prepare_writes_the_same_bytes_again(product, tmp_path):
    TASK.prepare(tmp_path / "again", seed=5, settings=TINY)
    files = sorted(path.relative_to(product) for path in product.rglob("*") if path.is_file())
    assert all((product / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in files)


def test_prepare_keeps_the_same_product_unless_forced(tmp_path):
    calls: list[int] = []
    for options in ({}, {}, {"force": True}, {"seed": 2}):
        TASK.prepare(tmp_path / "out", settings=TINY, progress=lambda done, total: calls.append(done), **options)
    assert len(calls) == 3 * TINY.steps
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["seed"] == 2


def test_prepare_recreates_an_incomplete_product(tmp_path):
    TASK.prepare(tmp_path, settings=TINY)
    (tmp_path / "val.parquet").unlink()
    TASK.prepare(tmp_path, settings=TINY)
    assert {path.name for path in tmp_path.iterdir()} == TASK.contents


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("thesis.tex", "{}"),
        ("train.parquet", ""),
        ("manifest.json", "{}"),
        ("manifest.json", "[]"),
        ("manifest.json", ""),
    ],
)
def test_prepare_refuses_a_folder_that_is_not_its_own(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="choose a folder that is new, empty or made by this command"):
        TASK.prepare(tmp_path, settings=TINY, force=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_prepare_refuses_to_delete_an_unknown_file_from_its_own_folder(tmp_path):
    out = tmp_path / "out"
    TASK.prepare(out, settings=TINY)
    (out / "notes.txt").write_text("keep me")
    with pytest.raises(ValueError, match="holds notes.txt"):
        TASK.prepare(out, seed=2, settings=TINY)
    assert (out / "notes.txt").read_text() == "keep me"


def test_a_failed_prepare_leaves_the_old_product_unchanged(tmp_path):
    TASK.prepare(tmp_path / "out", settings=TINY)
    before = (tmp_path / "out" / "manifest.json").read_bytes()

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TASK.prepare(tmp_path / "out", seed=2, settings=TINY, progress=fail)
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_command_closes_with_a_table(tmp_path, capsys):
    replace(TASK, settings=lambda: TINY).show(tmp_path / "out")
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("7588", "512", "sampled", "greedy", "seconds"))
