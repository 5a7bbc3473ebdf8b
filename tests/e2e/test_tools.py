"""Several turns with a tool: the batches that real runs trained on, compared with slow references.

One run has a row per session, one a row per turn, one the KL in the reward.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from reinforcepp_verl.runs import processes
from reinforcepp_verl.tasks.calculator_model import CalculatorWarmStart
from reinforcepp_verl.tasks.calculator_question import observation
from reinforcepp_verl.tasks.calculator_task import TASK

pytestmark = [pytest.mark.e2e, pytest.mark.long]

COMMAND = Path(sys.executable).with_name("reinforcepp")
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
ROLLOUT = "actor_rollout_ref.rollout"
STEPS = 3
# One update per step: the policy of the metrics is the one that gave old_log_probs.
SHORT = (
    *(f"trainer.total_training_steps={STEPS}", "trainer.val_before_train=false", "trainer.test_freq=-1"),
    *("actor_rollout_ref.actor.ppo_mini_batch_size=24", "trainer.save_freq=-1"),
)
SESSIONS, TURNS, KL_IN_REWARD = "sessions", "turns", "kl_in_reward"
KL_COEF = 0.05
OVERRIDES = {
    SESSIONS: (),
    TURNS: (
        f"{ROLLOUT}.agent.agent_loop_config_path={EXAMPLES / 'turn_rows.yaml'}",
        *(f"{ROLLOUT}.agent.default_agent_loop=turn_rows", "data.max_prompt_length=80"),
    ),
    KL_IN_REWARD: ("+method=reinforcepp", f"algorithm.kl_ctrl.kl_coef={KL_COEF}"),
}
CALL = re.compile(r'<tool_call>{"name": "calculator", "arguments": {"expression": "(.*?)"}}</tool_call>')
HEARD = re.compile(r"<\|im_start\|>tool\n(.*?)<\|im_end\|><\|im_start\|>assistant\n")


@dataclass
class Row:
    """One real row of a batch."""

    uid: str
    session: str
    place: int
    columns: dict[str, torch.Tensor]

    def __getattr__(self, name: str) -> torch.Tensor:
        try:
            return self.columns[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def mask(self) -> torch.Tensor:
        return self.columns["response_mask"].bool()

    @property
    def score(self) -> float:
        return self.columns["rm_scores"].sum().item()


class Runs:
    """Trains in the workplace, each run once."""

    def __init__(self, workplace: Path):
        self.workplace, self.folders = workplace, dict[str, Path]()

    def of(self, name: str) -> Path:
        if name not in self.folders:
            helpers = os.pathsep.join(map(str, (EXAMPLES, ROOT / "benchmarks" / "helpers")))
            marked = {processes.RUN_VARIABLE: str(self.workplace)}
            environment = {"PYTHONPATH": helpers, "VERL_USE_EXTERNAL_MODULES": "keep_batches", **marked}
            command = [COMMAND, "train", "+recipe=agents/calculator", *OVERRIDES[name], *SHORT, f"runs_dir={name}"]
            done = subprocess.run(
                command,
                cwd=self.workplace,
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=600,
                check=False,
            )
            assert done.returncode == 0, done.stdout
            self.folders[name] = (self.workplace / name / "latest").resolve()
        return self.folders[name]

    def rows(self, name: str, step: int) -> list[Row]:
        """Return the real rows of a step, in order."""
        kept = torch.load(self.of(name) / "batches" / f"{step}.pt")
        keys, real = kept.pop("keys"), kept.pop("real")
        rows = []
        for i, key in enumerate(keys):
            if real[i]:
                uid, session, place = key.rsplit("_", 2)
                rows.append(
                    Row(uid, f"{uid}_{session}", int(place), {name: column[i] for name, column in kept.items()})
                )
        return sorted(rows, key=lambda row: (row.session, row.place))

    def metrics(self, name: str, step: int) -> dict[str, float]:
        lines = (self.of(name) / "metrics.jsonl").read_text().splitlines()
        return next(record for record in map(json.loads, lines) if record["step"] == step)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    workplace = tmp_path_factory.mktemp("workplace")
    TASK.prepare(workplace / "data" / "calculator", settings=CalculatorWarmStart(careful_steps=400, sloppy_steps=60))
    yield Runs(workplace)
    processes.terminate_all(str(workplace))


@pytest.fixture(scope="module")
def tokenizer(runs):
    return AutoTokenizer.from_pretrained(runs.workplace / "data" / "calculator" / "model")


def said_by_the_model(tokenizer, row: Row) -> list[int]:
    """Return the mask of a session, from its text alone: the tool speaks from one <|im_start|> to the next message."""
    ids = row.responses.tolist()
    start, end, assistant = (tokenizer.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<|im_end|>", "assistant\n"))
    mask, model_speaks = [], True
    for i, token in enumerate(ids):
        if model_speaks and token == start and i and ids[i - 1] == end:
            model_speaks = False
        mask.append(int(model_speaks))
        if not model_speaks and token == assistant:
            model_speaks = True
    return mask


def session_scores(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Return the score of each session, by prompt."""
    scores = defaultdict[str, dict[str, float]](dict)
    for row in rows:
        scores[row.uid][row.session] = row.score
    return scores


def normalized(returns: list[list[float]], rows: list[Row]) -> Iterator[torch.Tensor]:
    """Normalize returns over all valid tokens of the batch, token by token."""
    valid = [
        g for row, per_token in zip(rows, returns, strict=True) for g, m in zip(per_token, row.mask, strict=True) if m
    ]
    mean = fmean(valid)
    deviation = math.sqrt(max(fmean((g - mean) ** 2 for g in valid), 1e-8))
    for row, per_token in zip(rows, returns, strict=True):
        yield torch.tensor([(g - mean) / deviation if m else 0.0 for g, m in zip(per_token, row.mask, strict=True)])


@pytest.mark.parametrize("name", [SESSIONS, KL_IN_REWARD])
def test_what_the_tool_says_is_masked(runs, tokenizer, name):
    turns = []
    for step in range(1, STEPS + 1):
        for row in runs.rows(name, step):
            assert row.response_mask.tolist() == row.loss_mask.tolist() == said_by_the_model(tokenizer, row)
            assert not row.advantages[~row.mask].any() and not row.rm_scores[~row.mask].any()
            said_and_heard = HEARD.split(tokenizer.decode(row.responses))
            turns.append(len(said_and_heard[::2]))
            for said, heard in zip(said_and_heard[:-1:2], said_and_heard[1::2], strict=True):
                assert observation(CALL.search(said)[1]) == heard
        assert sum(row.advantages.abs().sum() for row in runs.rows(name, step)) > 0
    assert {1, 2, 3} & set(turns) >= {2, 3}


@pytest.mark.parametrize("name", [SESSIONS, TURNS])
def test_advantages_equal_a_slow_reference_that_counts_sessions(runs, name):
    for step in range(1, STEPS + 1):
        rows = runs.rows(name, step)
        scores = session_scores(rows)
        assert len(scores) == 24 and all(len(sessions) == 4 for sessions in scores.values())
        baseline = {uid: fmean(sessions.values()) for uid, sessions in scores.items()}
        returns = [[row.score - baseline[row.uid]] * len(row.responses) for row in rows]
        for row, expected in zip(rows, normalized(returns, rows), strict=True):
            torch.testing.assert_close(row.advantages, expected, rtol=1e-4, atol=1e-5)


def test_each_turn_is_a_row_and_the_rows_of_a_session_share_score_and_advantage(runs, tokenizer):
    differs = 0
    for step in range(1, STEPS + 1):
        rows = runs.rows(TURNS, step)
        sessions = defaultdict[str, list[Row]](list)
        for row in rows:
            sessions[row.session].append(row)
        assert len(rows) > len(sessions) == 96
        for turns in sessions.values():
            assert [row.place for row in turns] == list(range(len(turns)))
            assert len({row.score for row in turns}) == 1
            assert len({advantage for row in turns for advantage in row.advantages.tolist()}) == 1
            assert all(row.mask.all() for row in turns)
            for before, after in zip(turns, turns[1:], strict=False):
                read = [*before.prompts.tolist(), *before.responses.tolist()]
                assert after.prompts.tolist()[: len(read)] == read
                assert HEARD.fullmatch(tokenizer.decode(after.prompts[len(read) :]))
        for uid, scores in session_scores(rows).items():
            by_row = fmean(row.score for row in rows if row.uid == uid)
            differs += by_row != pytest.approx(fmean(scores.values()))
    assert differs, "no group where a mean over rows would be another one: the test proves nothing"


def test_the_kl_in_the_reward_is_charged_on_what_the_model_said(runs):
    charged = 0.0
    for step in range(1, STEPS + 1):
        rows = runs.rows(KL_IN_REWARD, step)
        returns = []
        for row in rows:
            kl = row.old_log_probs - row.ref_log_prob
            expected = row.rm_scores - KL_COEF * kl * row.mask
            torch.testing.assert_close(row.token_level_rewards, expected, rtol=1e-5, atol=1e-6)
            assert torch.equal(row.token_level_rewards[~row.mask], row.rm_scores[~row.mask])
            charged += kl[~row.mask].abs().sum().item()
            to_go, total = [], 0.0
            for reward, valid in zip(reversed(expected.tolist()), reversed(row.mask.tolist()), strict=True):
                total += reward if valid else 0.0
                to_go.append(total)
            returns.append(to_go[::-1])
        for row, expected in zip(rows, normalized(returns, rows), strict=True):
            torch.testing.assert_close(row.advantages, expected, rtol=1e-4, atol=1e-4)
        kl = [k for row in rows for k in (row.old_log_probs - row.ref_log_prob)[row.mask].tolist()]
        assert runs.metrics(KL_IN_REWARD, step)["reinforcepp/kl"] == pytest.approx(fmean(kl), rel=1e-3, abs=1e-6)
    assert charged > 0.1, "the policies agree on what the tool says: the test proves nothing"


def test_gradient_and_kl_loss_come_from_what_the_model_said(runs):
    """The gradient of the first update is computed again, from the model before it and the valid tokens alone."""
    rows = runs.rows(SESSIONS, 1)
    model = AutoModelForCausalLM.from_pretrained(runs.workplace / "data" / "calculator" / "model")
    tokens = sum(int(row.mask.sum()) for row in rows)
    for row in rows:
        whole = torch.cat([row.prompts, row.responses])
        logits = model(input_ids=whole[None]).logits[0, len(row.prompts) - 1 : -1]
        log_probs = logits.log_softmax(-1).gather(1, row.responses[:, None])[:, 0]
        for recorded in (row.old_log_probs, row.ref_log_prob, row.rollout_log_probs):
            torch.testing.assert_close(recorded[row.mask], log_probs[row.mask].detach(), rtol=1e-3, atol=1e-4)
        said = log_probs[row.mask]
        ratio = (said - said.detach()).exp()
        (-(row.advantages[row.mask] * ratio).sum() / tokens).backward()
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in model.parameters()])
    assert runs.metrics(SESSIONS, 1)["actor/grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
    for step in range(2, STEPS + 1):
        rows = runs.rows(SESSIONS, step)
        k2 = [0.5 * k * k for row in rows for k in (row.old_log_probs - row.ref_log_prob)[row.mask].tolist()]
        assert fmean(k2) > 0
        assert runs.metrics(SESSIONS, step)["actor/kl_loss"] == pytest.approx(fmean(k2), rel=1e-3)
