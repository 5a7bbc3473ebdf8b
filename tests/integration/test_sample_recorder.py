"""What becomes a training sample of the rows in verl's queue."""

from __future__ import annotations

import errno
import json
import math
from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict
from tensordict.tensorclass import NonTensorStack
from tokenizers import Tokenizer, decoders, models
from transfer_queue import KVBatchMeta
from transformers import PreTrainedTokenizerFast

from reinforcepp_verl.config.sample_options import SampleOptions
from reinforcepp_verl.integration import sample_recorder, sample_rows
from reinforcepp_verl.training_samples.files import SampleFiles

LETTERS, END = "abcdefghijklmnopqrstuvwxyz+=", "$"
PART = "train"
EVERYTHING = SampleOptions(groups_per_step=9, answers_per_group=9)


@pytest.fixture(scope="module")
def tokenizer():
    words = {letter: number for number, letter in enumerate(LETTERS + END)}
    made = Tokenizer(models.WordLevel(words, unk_token=END))
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END)


def fields(prompt: str, text: str, reward: float, returned: dict | None = None, **columns: list) -> dict:
    """Return a row as verl's queue has it after the advantages; columns that are given replace its own."""
    size = len(text)
    made = {
        "prompts": torch.tensor([(LETTERS + END).index(letter) for letter in prompt]),
        "responses": torch.tensor([(LETTERS + END).index(letter) for letter in text]),
        "response_mask": torch.ones(size, dtype=torch.long),
        "rm_scores": torch.tensor([0.0] * (size - 1) + [reward]),
        "advantages": torch.full((size,), 0.5),
        "old_log_probs": torch.full((size,), -1.0),
        "rollout_log_probs": torch.full((size,), -1.25),
        "ref_log_prob": torch.full((size,), -1.5),
        "extra_fields": {"reward_extra_info": returned or {"score": reward}},
        "reward_model": {"ground_truth": "b"},
        "data_source": "toy",
    }
    return made | {name: torch.tensor(values) for name, values in columns.items()}


class Queue:
    """A TransferQueue that counts the rows that are read."""

    def __init__(self, rows: dict[str, dict]) -> None:
        self.rows, self.rows_read = rows, 0

    def kv_batch_get(self, keys, partition_id, select_fields):
        assert partition_id == PART
        self.rows_read += len(keys)
        rows = [self.rows[key] for key in keys]
        names = [name for name in select_fields if all(name in row for row in rows)]
        found = {name: [row[name] for row in rows] for name in names}
        joined = {
            name: torch.nested.as_nested_tensor(values, layout=torch.jagged)
            if isinstance(values[0], torch.Tensor)
            else NonTensorStack(*values)
            for name, values in found.items()
        }
        return TensorDict(joined, batch_size=len(keys))


@pytest.fixture
def write(tmp_path, tokenizer, monkeypatch):
    """Write the samples of step 7 of the rows given; return them as read from the disk."""

    def write(rows, options=EVERYTHING, *, padding=(), dropped=(), greedy=(), max_tokens=8):
        queue = Queue(rows)
        for module in (sample_recorder, sample_rows):
            monkeypatch.setattr(module, "tq", queue)
        keys = [key for key in rows if key not in greedy]
        batch = KVBatchMeta(
            keys=keys, tags=[{"is_padding": True} if key in padding else {} for key in keys], partition_id=PART
        )
        scores = torch.tensor([rows[key]["rm_scores"].double().sum().item() for key in keys])
        recorder = sample_recorder.SampleRecorder(options, SampleFiles(tmp_path), max_tokens)
        if greedy:
            by_prompt = {key.split("_")[0]: [each for each in greedy if each[0] == key[0]] for key in greedy}
            buffer = SimpleNamespace(scored_greedy_rows=by_prompt, clear_greedy_rows=by_prompt.clear)
            recorder.read_greedy_rows_of(buffer)
        recorder.add(batch, scores, torch.tensor([key in dropped for key in keys]))
        recorder.write(7, PART, tokenizer)
        assert not greedy or not by_prompt, "the greedy rows are cleared"
        write.rows_read = queue.rows_read
        return SampleFiles(tmp_path).read(7)

    return write


def test_a_sample_has_the_numbers_of_every_token(write):
    rows = {
        "p_1_0": fields("a+=", "b$", 1.0, {"score": 1.0, "acc": True, "len": 2, "pred": "b", "data_source": "toy"}),
        "p_0_0": fields("a+=", "cde", 0.0, response_mask=[1, 0, 1], advantages=[1.0, 9.0, 2.0]),
    }
    [sample] = write(rows)
    assert (sample.step, sample.prompt, sample.data_source, sample.ground_truth) == (7, "a+=", "toy", "b")
    assert (sample.sampled, sample.mean_reward, sample.reward_std) == (2, 0.5, 0.5)
    best, worst = sample.answers
    assert (best.session, best.reward, best.text, best.length, best.end) == (1, 1.0, "b$", 2, "stopped")
    assert best.parts == {"acc": 1.0, "len": 2.0} and best.texts == {"pred": "b"}
    assert best.kl == 1.0 and best.advantage == 0.5
    [row] = worst.rows
    assert row.tokens == ["c", "d", "e"] and row.token_ids == [2, 3, 4]
    assert row.mask == [1, 0, 1] and row.advantages == [1.0, 9.0, 2.0]
    assert row.trainer_log_probs == [-1.0] * 3 and row.engine_log_probs == [-1.25] * 3
    assert row.reference_log_probs == [-1.5] * 3 and row.scores is None and row.prompt is None
    assert worst.advantage == 1.5 and worst.kl == 1.0, "tokens of a tool do not count"


def test_a_padding_row_is_no_sample_and_only_the_rows_that_are_kept_are_read(write):
    rows = {f"{uid}_{n}_0": fields("a", "b$", float(n == rank)) for rank, uid in enumerate("pqrs") for n in range(8)}
    rows["pad1_0_0"] = fields("a", "$", 0.0)
    samples = write(rows, SampleOptions(groups_per_step=2, answers_per_group=3), padding=["pad1_0_0"])
    assert [len(sample.answers) for sample in samples] == [3, 3]
    assert write.rows_read == 6


def test_several_rows_of_a_session_are_one_answer(write):
    rows = {
        "p_0_1": fields("ab", "d$", 1.0),
        "p_0_0": fields("a", "b", 1.0),
        "p_1_0": fields("a", "c$", 0.0),
    }
    [sample] = write(rows)
    first = sample.answers[0]
    assert [row.text for row in first.rows] == ["b", "d$"] and [row.prompt for row in first.rows] == [None, "ab"]
    assert first.length == 3 and sample.sampled == 2 and sample.mean_reward == 0.5


def test_why_an_answer_ends_and_why_it_has_no_score(write):
    failed = {"score": 0.0, "reward_error": 1.0, "error": "error: E: boom \ud800", "acc": 0.0}
    rows = {
        "p_0_0": fields("a", "bcde", 0.0, failed),
        "p_1_0": fields("a", "bcd$", 1.0, {"score": 1.0, "reward_error": 0.0, "error": "no answer"}),
        "p_2_0": fields("a", "bc$", math.nan, advantages=[0.0] * 3),
    }
    [sample] = write(rows, max_tokens=4, dropped=["p_2_0"])
    by_number = {answer.session: answer for answer in sample.answers}
    assert [by_number[n].end for n in range(3)] == ["truncated", "stopped", "stopped"]
    assert by_number[0].error == "error: E: boom \\ud800" and by_number[0].parts == {}
    assert by_number[1].error is None and by_number[1].texts == {"error": "no answer"}
    assert by_number[2].dropped and by_number[2].reward is None
    assert sample.mean_reward == 0.5


def test_the_greedy_answer_is_marked_and_has_the_fields_that_there_are(write):
    greedy = fields("a", "z$", 1.0)
    for name in ("advantages", "old_log_probs", "ref_log_prob"):
        del greedy[name]
    rows = {"p_0_0": fields("a", "b$", 0.0), "p_1_0": greedy, "q_0_0": fields("a", "c$", 1.0)}
    samples = {sample.answers[0].text: sample for sample in write(rows, greedy=["p_1_0"])}
    answer, baseline = samples["b$"].answers
    assert not answer.greedy and baseline.greedy and (baseline.text, baseline.reward) == ("z$", 1.0)
    assert baseline.advantage is None and baseline.kl is None and baseline.rows[0].advantages is None
    assert baseline.rows[0].engine_log_probs == [-1.25] * 2
    assert samples["b$"].sampled == 1 and len(samples["c$"].answers) == 1


def test_scores_of_tokens_are_kept_where_tokens_are_scored(write):
    rows = {"p_0_0": fields("a", "bcd", 1.0, rm_scores=[0.5, 0.0, 1.0], score_mask=[True, False, True])}
    [sample] = write(rows)
    assert sample.answers[0].rows[0].scores == [0.5, 0.0, 1.0] and sample.answers[0].reward == 1.5


def test_the_middle_of_long_texts_is_left_out(write):
    rows = {"p_0_0": fields("a" * 40, LETTERS[:26], 1.0), "p_1_0": fields("a" * 40, "b$", 0.0)}
    [sample] = write(rows, SampleOptions(tokens_per_step=22))
    assert sample.prompt == "aaaaa[... 30 tokens left out ...]aaaaa"
    [row] = sample.answers[0].rows
    assert row.text == "abcde[... 16 tokens left out ...]vwxyz"
    assert len(row.tokens) == len(row.token_ids) == len(row.mask) == len(row.advantages) == 10
    assert sample.answers[0].length == 26 and sample.answers[1].text == "b$"


def test_what_a_reward_function_returns_is_bounded(write):
    returned = {"score": 1.0} | {f"n{i}": i for i in range(99)} | {f"t{i}": "x" * 9999 for i in range(99)}
    [sample] = write({"p_0_0": fields("a", "b$", 1.0, returned | {"list": [1] * 9999, "big": 10**400})})
    [answer] = sample.answers
    assert len(answer.parts) == len(answer.texts) == sample_rows.MOST_VALUES
    assert max(map(len, answer.texts.values())) < 600


def test_a_ground_truth_that_is_no_text_is_json(write):
    rows = {"p_0_0": fields("a", "b$", 1.0) | {"reward_model": {"ground_truth": {"tests": [1, "\ud800"]}}}}
    [sample] = write(rows)
    assert json.loads(sample.ground_truth)["tests"][0] == 1


@pytest.mark.parametrize(("code", "ends_the_run"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False)])
def test_only_a_full_disk_ends_the_run(write, monkeypatch, code, ends_the_run):
    monkeypatch.setattr(SampleFiles, "write", lambda *_: (_ for _ in ()).throw(OSError(code, "no")))
    monkeypatch.setattr(SampleFiles, "read", lambda *_: [])
    rows = {"p_0_0": fields("a", "b$", 1.0)}
    if ends_the_run:
        with pytest.raises(OSError, match="no"):
            write(rows)
    else:
        assert write(rows) == []
