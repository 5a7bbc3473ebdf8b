"""docs/examples/turn_rows.py: a session becomes one row per turn, with what the model read as the prompt."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture(scope="module")
def turn_rows():
    spec = importlib.util.spec_from_file_location("turn_rows", EXAMPLES / "turn_rows.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def session(mask: list[int], log_probs: list[float] | None = None) -> AgentLoopOutput:
    return AgentLoopOutput(
        prompt_ids=[1, 2],
        response_ids=list(range(10, 10 + len(mask))),
        response_mask=mask,
        response_logprobs=log_probs,
        num_turns=4,
        metrics=AgentLoopMetrics(),
        extra_fields={"max_global_steps": 3},
    )


def test_a_row_has_what_the_model_read_and_what_it_said(turn_rows):
    log_probs = [-0.1, -0.2, 0.0, 0.0, -0.3, 0.0, -0.4]
    rows = turn_rows.rows_of(session([1, 1, 0, 0, 1, 0, 1], log_probs), prompt_length=80)
    assert [(row.prompt_ids, row.response_ids, row.response_logprobs) for row in rows] == [
        ([1, 2], [10, 11], [-0.1, -0.2]),
        ([1, 2, 10, 11, 12, 13], [14], [-0.3]),
        ([1, 2, 10, 11, 12, 13, 14, 15], [16], [-0.4]),
    ]
    assert all(set(row.response_mask) == {1} and row.extra_fields["max_global_steps"] == 3 for row in rows)
    # verl writes the score of the session into the extra fields of each row.
    rows[0].extra_fields["reward_extra_info"] = {}
    assert "reward_extra_info" not in rows[1].extra_fields
    assert rows[1].as_dict()["prompts"].tolist() == rows[1].prompt_ids


def test_one_turn_is_one_row_and_a_long_prompt_is_refused(turn_rows):
    [row] = turn_rows.rows_of(session([1, 1]), prompt_length=80)
    assert (row.prompt_ids, row.response_ids, row.response_logprobs) == ([1, 2], [10, 11], None)
    with pytest.raises(ValueError, match="set data.max_prompt_length to 4 or more"):
        turn_rows.rows_of(session([1, 0, 1]), prompt_length=3)


def test_the_yaml_file_names_the_class(turn_rows):
    [entry] = OmegaConf.load(EXAMPLES / "turn_rows.yaml")
    module, _, name = entry._target_.rpartition(".")
    assert (entry.name, module) == ("turn_rows", "turn_rows") and getattr(turn_rows, name)
