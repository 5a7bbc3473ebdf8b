"""Estimates and unusual choices are warnings: shown, saved with the run, silenced by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from reinforcepp_verl.cli import hydra_app
from reinforcepp_verl.common import hardware
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.config import machines, search_path
from reinforcepp_verl.config.preflight_options import WARNINGS, PreflightOptions
from reinforcepp_verl.preflight import examine, gpu_memory, machine
from reinforcepp_verl.preflight.findings import show_warnings
from reinforcepp_verl.runs import launch

RECIPE, DAPO = "+recipe=math_rlvr/arithmetic", "math_rlvr/qwen25_7b_dapo"
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
AS_LOSS = f"algorithm.use_kl_in_reward=false {ACTOR}.use_kl_loss=true"
STEPS = "reward.custom_reward_function.path=pkg://reinforcepp_verl.rewards.running_sums"
# name, overrides, and a part of the message
CASES = [
    ("kl_loss_gradient", f"{AS_LOSS} {ACTOR}.kl_loss_type=low_var_kl", f"set {ACTOR}.kl_loss_type=mse (k2)"),
    ("kl_loss_gradient", f"{AS_LOSS} {ACTOR}.kl_loss_type=kl", f"{ACTOR}.kl_loss_type is kl"),
    ("kl_twice", f"{ACTOR}.use_kl_loss=true {ACTOR}.kl_loss_type=mse", f"set {ACTOR}.use_kl_loss=false"),
    (
        "kl_in_baseline_reward",
        f"+method=reinforcepp_baseline algorithm.use_kl_in_reward=true {ACTOR}.use_kl_loss=false",
        "set algorithm.use_kl_in_reward=false",
    ),
    ("verl_trainer", "trainer.v1.trainer_mode=sync", "set trainer.v1.trainer_mode=reinforcepp_sync"),
    ("verl_trainer", "+method=grpo trainer.v1.trainer_mode=sync", "no checkpoint to resume from"),
    ("summed_steps", f"{STEPS} +method=rloo", "leave_one_out: it adds up the step_scores that compute_score of pkg://"),
    ("summed_steps", f"{STEPS} +method=grpo", "use +method=reinforcepp, or one of reinforcepp_baseline, reinforce"),
]
TOO_LARGE = [
    ("hardware.gpu_memory_gib=39", "hardware.gpu_memory_gib is 39", "set actor_rollout_ref."),
    ("hardware.gpu_memory_gib=10", "no setting makes it fit", "actor_rollout_ref.model.lora_rank=32"),
    (f"{ROLLOUT}.gpu_memory_utilization=0.95", "the phase rollout needs about 90 GiB", "memory_utilization=0.8"),
    (f"{ROLLOUT}.gpu_memory_utilization=0.2", "leaves room for 2149 tokens of KV cache", "memory_utilization=0.8"),
]


@pytest.fixture(autouse=True)
def _in_arithmetic(arithmetic, monkeypatch):
    monkeypatch.chdir(arithmetic)


@pytest.mark.parametrize(("name", "overrides", "says"), CASES, ids=[case[1] for case in CASES])
def test_a_warning_has_its_name_and_the_fix(compose, name, overrides, says):
    found = examine(compose(RECIPE, *overrides.split()))
    [warning] = found.warnings
    assert found.errors == []
    assert warning.name == name
    assert says in warning.message and "\n" not in warning.message


@pytest.mark.parametrize(("override", "what", "fix"), TOO_LARGE, ids=[case[0] for case in TOO_LARGE])
def test_an_estimate_above_the_memory_is_a_warning(recipe_as_meant, override, what, fix):
    [warning] = gpu_memory.check(recipe_as_meant(DAPO, override))
    assert warning.name == "memory_estimate"
    assert what in warning.message and fix in warning.message.rpartition("; ")[2]


def test_an_allowed_warning_is_silenced_and_others_are_shown(compose):
    overrides = f"{ACTOR}.use_kl_loss=true {ACTOR}.kl_loss_type=kl preflight.allow=[kl_twice]".split()
    assert [warning.name for warning in examine(compose(RECIPE, *overrides)).warnings] == ["kl_loss_gradient"]


def test_missing_files_are_errors_unless_nothing_starts(compose):
    config = compose(RECIPE, "data.train_files=nope.parquet", "actor_rollout_ref.model.path=./nope")
    assert [error.partition(":")[0] for error in examine(config).errors] == [
        "data.train_files",
        "actor_rollout_ref.model.path",
    ]
    found = examine(config, files_may_be_missing=True)
    assert ([warning.name for warning in found.warnings], found.errors) == (["missing_files"] * 2, [])


@pytest.mark.parametrize(
    ("gib", "arguments", "says"),
    [
        ((24.0, 24.0), (), "8 GPUs of 79 GiB), but this machine has 2 GPUs of 24 GiB; submit it"),
        ((24.0,) * 8, (), "but this machine has 8 GPUs of 24 GiB"),
        ((140.0,) * 8, (), None),
        ((24.0, 24.0), ("cluster=local",), None),
        ((24.0, 24.0), ("hardware.meant_for=cpu",), None),
        ((), ("hardware.meant_for=cpu",), None),
    ],
)
def test_a_smaller_machine_than_the_one_meant(monkeypatch, gib, arguments, says):
    monkeypatch.delenv("VERL_PLATFORM")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "DEVICE_NODES", ("/",) if gib else ())
    for module in (hardware, machines):
        monkeypatch.setattr(module, "gpu_memories_gib", lambda: gib)
    found: list = []
    monkeypatch.setattr("sys.argv", ["reinforcepp"])
    hydra_app.run(
        lambda config: found.extend(machine.at_hand(config)), [f"+recipe={DAPO}", *arguments], "x", starts_here=True
    )
    assert [warning.name for warning in found] == (["other_machine"] if says else [])
    assert says is None or says in found[0].message


def test_every_name_is_documented_and_tried():
    others = {"answer_format", "long_prompts", "memory_estimate", "message_roles", "missing_files"}
    others |= {"no_flash_attention", "other_machine", "unmeasured_tools"}
    tried = {*(case[0] for case in CASES), *others}
    assert tried == set(WARNINGS)
    node = search_path.config_dir() / "reinforcepp" / "preflight.yaml"
    for page in (node, Path(__file__).parents[2] / "docs" / "operations.md"):
        assert not [name for name in WARNINGS if f"`{name}`" not in page.read_text(encoding="utf-8")], page
    with pytest.raises(ValueError, match=r"preflight.allow has nope: no such warning; known names: answer_format, "):
        PreflightOptions(["nope"])


def test_warnings_are_shown_with_how_to_silence_them(compose, capsys):
    show_warnings(examine(compose(RECIPE, *CASES[0][1].split())).warnings)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"warning: kl_loss_gradient: {ACTOR}.kl_loss_type is low_var_kl")
    assert lines[1:] == ["to silence: 'preflight.allow=[kl_loss_gradient]'"]


def test_warnings_are_in_the_run_folder_until_their_cause_is_gone(compose, tmp_path):
    config = compose(RECIPE, *CASES[0][1].split(), f"runs_dir={tmp_path}")
    warnings = examine(config).warnings
    run: RunFolder = launch.new_run(config, warnings)
    assert run.warnings.read_text() == f"{warnings[0]}\n"
    launch.save_warnings([], run)
    assert not run.warnings.exists()
