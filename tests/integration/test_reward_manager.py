"""Our reward manager in verl's own reward worker: what the reward function receives, how its errors are handled."""

from __future__ import annotations

import asyncio
import inspect
import math

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl.trainer.ppo.v1 import trainer_base

from reinforcepp_verl.config.reward_error_options import OUR_REWARD_MANAGER
from reinforcepp_verl.integration.reward_manager import ReinforceppRewardManager
from reinforcepp_verl.tasks.arithmetic_task import build_tokenizer

TOKENIZER = build_tokenizer()
EOS = TOKENIZER.eos_token_id
MAX_TOKENS = 4
# verl fills with id 0, which is "!" to the tokenizers of many models and would vanish in ours.
PADDING = TOKENIZER.encode("0", add_special_tokens=False)[0]


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


def worker(compute_score, mode="reinforcepp_sync", **algorithm) -> RewardLoopWorker:
    """verl's worker with our manager, in its state after the start."""
    made = RewardLoopWorker.__new__(RewardLoopWorker)
    made.config = OmegaConf.create(
        {
            "reward": {"custom_reward_function": {"path": "mine.py"}, "reward_model": {"enable": False}},
            "reward_errors": {"score": -0.5},
            "actor_rollout_ref": {"rollout": {"response_length": MAX_TOKENS}},
            "algorithm": algorithm,
            "trainer": {"v1": {"trainer_mode": mode}},
        }
    )
    made.reward_manager = get_reward_manager_cls(OUR_REWARD_MANAGER)(
        config=made.config,
        tokenizer=TOKENIZER,
        compute_score=compute_score,
        reward_router_address=None,
        reward_model_tokenizer=None,
    )
    return made


def session(*answers: list[int], **fields) -> DataProto:
    """Build what verl's agent loop sends for a session of these rows, each after a prompt of a different length."""
    rows = [
        (torch.tensor([1] * (row + 1)), torch.tensor(answer, dtype=torch.long)) for row, answer in enumerate(answers)
    ]

    def pad(values, padding=0):
        return torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=padding)

    tensors = {
        "prompts": pad([prompt for prompt, _ in rows]),
        "responses": pad([answer for _, answer in rows], PADDING),
        "attention_mask": pad([torch.ones(len(prompt) + len(answer), dtype=torch.long) for prompt, answer in rows]),
    }
    known = {"data_source": "sums", "reward_model": {"ground_truth": "95"}, "extra_info": {"index": 7}, **fields}
    objects = {name: np.array([value] * len(rows)) for name, value in known.items()} | {
        "__num_turns__": np.array([2] * len(rows)),
        "tool_extra_fields": np.array([{"turn_scores": []}] * len(rows), dtype=object),
        "response_len": np.array([len(answer) for answer in answers]),
    }
    return DataProto(batch=TensorDict(tensors, batch_size=len(rows)), non_tensor_batch=objects)


def scored(made: RewardLoopWorker, data: DataProto) -> tuple[float, dict]:
    result = made.reward_manager.loop.run_until_complete(made.compute_score(data))
    return result["reward_score"], result["reward_extra_info"]


def received_by(data: DataProto) -> dict:
    """Return the arguments of the reward function."""
    seen = {}

    def compute_score(**given):
        seen.update(given)
        return 1.0

    score, row = scored(worker(compute_score), data)
    assert score == 1.0
    truncated = float(seen["extra_info"]["truncated"])
    flags = {"reward_error": 0.0, "reward_timeout": 0.0, "response_truncated": truncated}
    assert row == {"score": 1.0, "acc": 1.0, **flags, "data_source": "sums"}
    return seen


def test_verl_finds_it_by_its_name():
    assert get_reward_manager_cls(OUR_REWARD_MANAGER) is ReinforceppRewardManager


def test_the_function_gets_the_prompt():
    chat = [{"role": "user", "content": "37+58="}]
    assert received_by(session(ids("9"), ids("95"), raw_prompt=chat))["extra_info"]["raw_prompt"] == chat


def test_the_function_is_called_as_by_verl_plus_the_length():
    given = received_by(session([*ids("95"), EOS]))
    assert given.keys() == {"data_source", "solution_str", "ground_truth", "extra_info"}
    assert (given["data_source"], given["solution_str"], given["ground_truth"]) == ("sums", "95", "95")
    assert given["extra_info"] == {
        "index": 7,
        "response_ids": [*ids("95"), EOS],
        "response_tokens": 3,
        "truncated": False,
        "num_turns": 2,
        "rollout_reward_scores": {},
        "turn_scores": [],
    }


@pytest.mark.parametrize(
    ("answer", "truncated"),
    [("1234", True), ("123", False), ("12345", True), ("", False)],
    ids=["the whole budget", "stopped short of it", "beyond it", "nothing"],
)
def test_an_answer_that_used_its_budget_is_truncated(answer, truncated):
    assert received_by(session(ids(answer)))["extra_info"]["truncated"] is truncated


def test_an_answer_that_ends_with_the_last_token_of_its_budget_is_not_truncated():
    assert received_by(session([*ids("123"), EOS]))["extra_info"]["truncated"] is False


def test_a_session_is_scored_by_its_last_row_without_the_padding_of_the_others():
    given = received_by(session([*ids("1234"), *ids("5678")], [*ids("95"), EOS]))
    assert (given["solution_str"], given["extra_info"]["response_tokens"]) == ("95", 3)


def test_a_dataset_without_extra_info_works():
    data = session(ids("95"))
    del data.non_tensor_batch["extra_info"]
    assert received_by(data)["extra_info"]["response_tokens"] == 2


def sometimes(**given):
    if given["solution_str"] == "13":
        raise RuntimeError("no verdict\n  today")
    return {"score": 1.0, "acc": 1.0, "pred": given["solution_str"], "steps": 4, "judge": {"name": "j"}}


async def sometimes_async(**given):
    return sometimes(**given)


@pytest.mark.parametrize("compute_score", [sometimes, sometimes_async])
def test_an_exception_is_scored_and_its_row_has_the_keys_of_the_others(compute_score):
    made = worker(compute_score)
    _, fine = scored(made, session(ids("95")))
    score, row = scored(made, session(ids("13")))
    assert score == -0.5
    assert row == {
        "score": -0.5,
        "acc": 0.0,
        "pred": "",
        "steps": 0.0,
        "judge": None,
        "error": "error: RuntimeError: no verdict today",
        "reward_error": 1.0,
        "reward_timeout": 0.0,
        "response_truncated": 0.0,
        "data_source": "sums",
    }
    assert row.keys() - fine.keys() == {"error"}


def test_a_worker_whose_first_answer_fails_has_the_key_that_groups_are_filtered_by():
    made = worker(sometimes, filter_groups={"enable": True, "metric": "acc"})
    assert scored(made, session(ids("13")))[1]["acc"] == 0.0
    made = worker(sometimes, filter_groups={"enable": True, "metric": "reward"})
    assert "reward" not in scored(made, session(ids("13")))[1], "verl has a column of that name"


def test_verls_validation_accepts_rows_with_and_without_errors():
    made = worker(sometimes)
    rows = [scored(made, session(ids(answer)))[1] for answer in ("95", "13", "95")]
    columns = {key: [row.get(key) for row in rows] for key in {key for row in rows for key in row} - {"judge"}}
    found = process_validation_metrics(["sums"] * 3, ["a", "b", "c"], columns)["sums"]
    assert found["acc"]["mean@1"] == pytest.approx(2 / 3)
    assert found["reward_error"]["mean@1"] == pytest.approx(1 / 3)
    assert "error" not in found


def test_verl_fills_a_key_that_a_row_lacks_with_none():
    source = inspect.getsource(trainer_base.PPOTrainer._validate)
    assert "reward_extra_infos_dict[key].append(None)" in source


@pytest.mark.parametrize("score", [float("nan"), float("inf"), np.float32(0.25), torch.tensor(0.25), True, 3])
def test_every_number_is_a_score_even_if_it_is_not_finite(score):
    got, row = scored(worker(lambda **_: {"score": score}), session(ids("95")))
    assert row["reward_error"] == 0.0
    assert got == float(score) or (math.isnan(got) and math.isnan(score))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "error: TypeError: the reward function returned None as the score"),
        ("0.5", "error: TypeError: the reward function returned '0.5' as the score"),
        ({"score": None}, "error: TypeError: the reward function returned None as the score"),
        ({"acc": 1.0}, "error: TypeError: the reward function returned a dict without score, only with acc"),
        ([1.0], "error: TypeError: float() argument"),
    ],
)
def test_anything_else_than_a_score_is_an_error(result, message):
    score, row = scored(worker(lambda **_: result), session(ids("95")))
    assert (score, row["reward_error"]) == (-0.5, 1.0)
    assert row["error"].startswith(message)


def test_an_exception_that_threads_cannot_raise_is_an_error_like_any_other():
    def compute_score(**_):
        raise StopIteration

    assert scored(worker(compute_score), session(ids("95")))[1]["error"] == "error: StopIteration:"


@pytest.mark.parametrize("pairs", [[[0, 0], [2, 1.0]], ((0, 0.0), (2, np.float32(1.0)))])
def test_scores_of_tokens_are_kept_and_summed(pairs):
    score, row = scored(worker(lambda **_: {"token_scores": pairs, "acc": 1.0}), session([*ids("95"), EOS]))
    assert (score, row["score"], row["reward_error"]) == (1.0, 1.0, 0.0)
    assert row["token_scores"] == [(0, 0.0), (2, 1.0)]


def test_scores_of_steps_become_scores_of_tokens():
    made = worker(lambda **_: {"step_scores": [[1, 0.0], [3, 1.0]], "acc": 1.0})
    score, row = scored(made, session([*ids("1+2"), EOS]))
    assert (score, row["score"], row["reward_error"]) == (1.0, 1.0, 0.0)
    assert row["token_scores"] == [(0, 0.0), (2, 1.0)] and "step_scores" not in row


def test_scores_of_steps_may_be_none():
    _, row = scored(worker(lambda **_: {"step_scores": None, "token_scores": None, "score": 0.5}), session(ids("95")))
    assert (row["score"], row["token_scores"]) == (0.5, None) and "step_scores" not in row


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"token_scores": [[0, 1.0]], "score": 1.0}, "ValueError: the reward function returned score and token_scores"),
        ({"step_scores": [[1, 1.0]], "score": 1.0}, "ValueError: the reward function returned score and step_scores"),
        (
            {"step_scores": [[1, 1.0]], "token_scores": [[0, 1.0]]},
            "ValueError: the reward function returned step_scores and token_scores: return one of them",
        ),
        ({"step_scores": [[3, 1.0]]}, "ValueError: step_scores has a step that ends at 3: ends count the characters"),
        ({"step_scores": [[1, math.nan]]}, "ValueError: step_scores has the score nan for end 1: it must be finite"),
        ({"step_scores": []}, "ValueError: step_scores is empty: return score for an answer without a step"),
        (
            {"token_scores": [[3, 1.0]]},
            "ValueError: token_scores has a score for token 3: the answer has tokens",
        ),
        ({"token_scores": [[-1, 1.0]]}, "ValueError: token_scores has a score for token -1"),
        (
            {"token_scores": [[0, 1.0], [0, 2.0]]},
            "ValueError: token_scores has two scores for token 0: return",
        ),
        (
            {"token_scores": [[0, math.nan]]},
            "ValueError: token_scores has the score nan for token 0: it must be",
        ),
        ({"token_scores": []}, "ValueError: token_scores is empty: return a score for at least one token"),
        ({"token_scores": [1.0, 0.0]}, "TypeError: token_scores has the entry 1.0: each must be [token, score]"),
        ({"token_scores": [["0", 1.0]]}, "TypeError: token_scores has the entry ['0', 1.0]: each must be an integer"),
        ({"token_scores": 1.0}, "TypeError: token_scores is 1.0: return a list of [token, score]"),
    ],
)
def test_scores_of_tokens_that_cannot_be_placed_are_errors(result, message):
    score, row = scored(worker(lambda **_: result), session([*ids("95"), EOS]))
    assert (score, row["reward_error"]) == (-0.5, 1.0)
    assert row["error"].startswith(f"error: {message}")


def test_an_answer_that_fails_has_no_scores_of_tokens():
    results = iter([{"token_scores": [[0, 1.0]]}, {}])
    made = worker(lambda **_: next(results))
    scored(made, session(ids("95")))
    assert scored(made, session(ids("95")))[1]["token_scores"] is None


@pytest.mark.parametrize("key", ["token_scores", "step_scores"])
def test_scores_of_tokens_are_refused_under_verls_own_trainers(key):
    _, row = scored(worker(lambda **_: {key: [[1, 1.0]]}, mode="sync"), session(ids("95")))
    assert f"{key}: trainer.v1.trainer_mode is sync, and verl's own trainers cannot place them" in row["error"]
    assert row["error"].endswith("trainer.v1.trainer_mode=reinforcepp_sync")


def test_many_answers_are_scored_at_once_in_one_worker():
    made = worker(sometimes)
    rows = [session(ids(answer)) for answer in ("95", "13") * 16]

    async def all_of_them():
        return await asyncio.gather(*(made.compute_score(row) for row in rows))

    results = made.reward_manager.loop.run_until_complete(all_of_them())
    assert [result["reward_score"] for result in results] == [1.0, -0.5] * 16


def test_verl_still_has_the_names_that_the_manager_relies_on():
    parameters = list(inspect.signature(NaiveRewardManager.__init__).parameters)
    assert parameters == [
        "self",
        *("config", "tokenizer", "compute_score"),
        *("reward_router_address", "reward_model_tokenizer"),
    ]
    source = inspect.getsource(NaiveRewardManager.run_single)
    assert '"responses"' in source and '"attention_mask"' in source and source.count("data_item.batch[") == 2
    assert "inspect.iscoroutinefunction(self.compute_score)" in inspect.getsource(NaiveRewardManager.__init__)
    sent = inspect.getsource(AgentLoopWorker._compute_score)
    assert '"response_len": np.array([len(o.response_ids) for o in outputs])' in sent
