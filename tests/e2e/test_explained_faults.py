"""Faults that are provoked for real: `reinforcepp explain` names each, and says nothing about the healthy run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reinforcepp_verl.cli import app
from reinforcepp_verl.config import keys

pytestmark = [pytest.mark.e2e, pytest.mark.long]

HEAD = "def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):\n"
NOTHING = HEAD + "    return 0.0\n"
LONG = HEAD + (
    "    right = solution_str.split('<eos>')[0].strip() == ground_truth\n"
    '    return {"score": extra_info["response_tokens"] / 8, "acc": float(right)}\n'
)
FAILS = HEAD + (
    '    return float(solution_str.split("<eos>")[0].strip() == ground_truth) if int(ground_truth) % 5 else 1 / 0\n'
)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a run, and the rules that may name it, of which the first must."""

    rules: tuple[str, ...]
    steps: int
    overrides: tuple[str, ...] = ()
    reward: str | None = None


FAULTS = {
    "nothing": Fault((), 30),
    "learning rate 100 times too high": Fault(
        ("large_updates", "entropy_collapse", "no_signal", "truncation"), 20, (f"{keys.ACTOR_LR}=3e-2",)
    ),
    "learning rate 1000 times too low": Fault(("small_learning_rate",), 50, (f"{keys.ACTOR_LR}=3e-7",)),
    "temperature 0.3": Fault(("little_randomness", "no_signal"), 10, (f"{keys.TEMPERATURE}=0.3",)),
    "every reward 0": Fault(("no_signal",), 6, reward=NOTHING),
    "reward for length without KL": Fault(
        ("reward_hacking", "no_signal", "truncation"), 30, (f"{keys.KL_COEF}=0",), LONG
    ),
    "too few tokens": Fault(("truncation",), 6, (f"{keys.MAX_RESPONSE_LENGTH}=2",)),
    "a reward that fails": Fault(("reward_errors",), 6, ("reward_errors.max_rate=0.5",), FAILS),
}


@pytest.mark.parametrize("name", FAULTS)
def test_explain_names_the_fault(name: str, train: Callable[..., tuple[Path, str]], tmp_path: Path):
    fault = FAULTS[name]
    overrides = [f"trainer.total_training_steps={fault.steps}", "trainer.val_before_train=false", *fault.overrides]
    overrides += ["trainer.test_freq=-1", "trainer.save_freq=-1"]
    if fault.reward:
        (tmp_path / "reward.py").write_text(fault.reward)
        overrides.append(f"reward.custom_reward_function.path={tmp_path / 'reward.py'}")
    run, _ = train(*overrides)
    findings = tmp_path / "findings.json"
    result = CliRunner().invoke(app, ["explain", str(run), "--json", str(findings)])
    assert result.exit_code == 0, result.output
    found = [finding["rule"] for finding in json.loads(findings.read_text())["findings"]]
    assert set(fault.rules[:1]) <= set(found) <= set(fault.rules), result.output
