"""Wrong `reinforcepp train` commands as a user types them: each exits at once, names key and fix, writes nothing."""

from dataclasses import dataclass, field

import pytest

RECIPE = "+recipe=math_rlvr/arithmetic"


@dataclass(frozen=True)
class Invocation:
    """One wrong command and what its output must contain."""

    name: str
    arguments: tuple[str, ...]
    says: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


INVOCATIONS = [
    Invocation(
        "misspelt key on the command line",
        (RECIPE, "algorithm.gama=0.9"),
        ("algorithm.gama: unknown key", "did you mean algorithm.gamma?"),
    ),
    Invocation(
        "misspelt key added with a plus",
        (RECIPE, "+trainer.tset_freq=1"),
        ("trainer.tset_freq: unknown key", "did you mean trainer.test_freq?"),
    ),
    Invocation(
        "misspelt key in the user's own recipe",
        ("--config-dir", "mine", "+recipe=own"),
        ("actor_rollout_ref.actor.optim.lrr: unknown key", "did you mean actor_rollout_ref.actor.optim.lr?"),
        files={
            "mine/recipe/own.yaml": "# @package _global_\n"
            "defaults: [math_rlvr/arithmetic, _self_]\n"
            "actor_rollout_ref: {actor: {optim: {lrr: 1}}}\n"
        },
    ),
    Invocation(
        "misspelt key in the user's own primary config",
        ("--config-dir", "mine", "--config-name", "run"),
        ("trainer.total_steps: unknown key", "did you mean trainer.total_epochs?"),
        files={"mine/run.yaml": "defaults: [reinforcepp_trainer, _self_]\ntrainer: {total_steps: 1}\n"},
    ),
    Invocation(
        "recipe that does not exist",
        ("+recipe=math_rlvr/nope",),
        ("recipe/math_rlvr/nope", "arithmetic"),
    ),
    Invocation(
        "recipe with two plusses",
        ("++recipe=math_rlvr/arithmetic",),
        ("++recipe=math_rlvr/arithmetic", "write +recipe=NAME"),
    ),
    Invocation(
        "misspelt config group",
        ("+recipes=math_rlvr/arithmetic",),
        ("recipes: unknown key", "did you mean +recipe=NAME?"),
    ),
    Invocation(
        "recipe without the plus",
        ("recipe=math_rlvr/arithmetic",),
        ("recipe", "+recipe=math_rlvr/arithmetic"),
    ),
    Invocation(
        "syntax error",
        (RECIPE, "trainer.logger=[console"),
        ("trainer.logger=[console",),
    ),
    Invocation(
        "wrong type in the typed node",
        (RECIPE, "algorithm.reinforcepp.variance_floor=small"),
        ("algorithm.reinforcepp.variance_floor", "'small'", "it must be a float"),
    ),
    Invocation(
        "a number where a pair is wanted",
        (RECIPE, "algorithm.reinforcepp.reward_clip=5"),
        ("algorithm.reinforcepp.reward_clip", "it must be a list[float] | None"),
    ),
    Invocation(
        "wrong type in the sampler's options",
        (RECIPE, "trainer.v1.sampler.sampler_kwargs.poll_interval_s=fast"),
        ("trainer.v1.sampler.sampler_kwargs.poll_interval_s", "'fast'"),
    ),
    Invocation(
        "unknown estimator",
        (RECIPE, "algorithm.adv_estimator=reinforce++"),
        ("algorithm.adv_estimator is reinforce++", "reinforcepp"),
    ),
    Invocation(
        "unknown loss",
        (RECIPE, "actor_rollout_ref.actor.policy_loss.loss_mode=nope"),
        ("actor_rollout_ref.actor.policy_loss.loss_mode is nope", "reinforcepp"),
    ),
    Invocation(
        "missing data file",
        (RECIPE, "data.train_files=data/arithmetic/nope.parquet"),
        ("data.train_files", "data/arithmetic/nope.parquet", "reinforcepp prepare arithmetic"),
    ),
    Invocation(
        "malformed data file",
        (RECIPE, "data.val_files=broken.parquet"),
        ("data.val_files", "broken.parquet is not a readable parquet file", "write it again"),
        files={"broken.parquet": "no table"},
    ),
    Invocation(
        "missing model",
        (RECIPE, "actor_rollout_ref.model.path=./no_model"),
        ("actor_rollout_ref.model.path", "./no_model", "Hugging Face hub"),
    ),
    Invocation(
        "missing reward function",
        (RECIPE, "reward.custom_reward_function.path=score.py"),
        ("reward.custom_reward_function.name is compute_score", "define it"),
        files={"score.py": "def compute_scores(): ...\n"},
    ),
    Invocation(
        "legacy reward key",
        (RECIPE, "reward_model.reward_manager=dapo"),
        ("reward_model.reward_manager=dapo", "set reward.reward_manager.name"),
    ),
    Invocation(
        "plugin switched off",
        (RECIPE,),
        ("VERL_USE_EXTERNAL_PLUGINS=none", "unset it"),
        environment={"VERL_USE_EXTERNAL_PLUGINS": "none"},
    ),
    Invocation(
        "batch sizes that do not divide",
        (RECIPE, "data.train_batch_size=64", "actor_rollout_ref.actor.ppo_mini_batch_size=48"),
        ("actor_rollout_ref.actor.ppo_mini_batch_size is 48", "set actor_rollout_ref.actor.ppo_mini_batch_size=32"),
    ),
    Invocation(
        "settings that contradict each other",
        (RECIPE, "+method=reinforcepp_baseline", "actor_rollout_ref.rollout.n=1"),
        ("actor_rollout_ref.rollout.n is 1", "+method=reinforcepp"),
    ),
    Invocation(
        "FSDP1 on the CPU",
        (RECIPE, "actor_rollout_ref.actor.strategy=fsdp"),
        ("actor_rollout_ref.actor.strategy is fsdp", "actor_rollout_ref.actor.strategy=fsdp2"),
    ),
    Invocation(
        "cluster with a plus",
        (RECIPE, "+cluster=cpu"),
        ("cluster=cpu: every configuration has a cluster already", "write it without a plus"),
    ),
    Invocation(
        "cluster with two plusses",
        (RECIPE, "++cluster=cpu"),
        ("++cluster=cpu", "write cluster=NAME"),
    ),
    Invocation(
        "a second cluster in the user's own primary config",
        ("--config-dir", "mine", "--config-name", "run"),
        ("cluster=local: every configuration has a cluster already", "`override /cluster: local`"),
        files={
            "mine/run.yaml": "defaults: [reinforcepp_trainer, cluster: local, recipe: math_rlvr/arithmetic, _self_]"
        },
    ),
    Invocation(
        "cluster that does not exist",
        (RECIPE, "cluster=h100x9"),
        ("cluster/h100x9", "did you mean h100x8?"),
    ),
    Invocation(
        "a recipe for GPUs on a machine without any",
        ("+recipe=math_rlvr/qwen25_7b_dapo",),
        ("hardware.meant_for is h100x8 (8 GPUs of 79 GiB)", "set cluster=cpu"),
    ),
    Invocation(
        "a recipe that is meant for a machine that does not exist",
        (RECIPE, "hardware.meant_for=h100x9"),
        ("hardware.meant_for is h100x9", "did you mean h100x8?"),
    ),
    Invocation(
        "refused by verl itself",
        (RECIPE, "actor_rollout_ref.actor.loss_agg_mode=mean"),
        ("verl refuses the configuration", "loss_agg_mode", "mean"),
    ),
]


@pytest.mark.parametrize("case", INVOCATIONS, ids=[case.name for case in INVOCATIONS])
def test_it_ends_at_once_with_key_and_fix(case, arithmetic, tmp_path, monkeypatch, reinforcepp):
    (tmp_path / "data").symlink_to(arithmetic / "data")
    for name, content in case.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    for name, setting in case.environment.items():
        monkeypatch.setenv(name, setting)
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())

    done = reinforcepp("train", *case.arguments)

    assert done.exit_code == 2, done.output
    assert not [part for part in case.says if part not in done.output], done.output
    assert "Traceback" not in done.output
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")], done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == before
