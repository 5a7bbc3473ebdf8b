"""docs/mistakes.md: every mistake in its tables is made, and the messages are those that are printed.

To write the page again: MISTAKES=write python -m pytest tests/docs/test_mistakes.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reinforcepp_verl.preflight import examine

PAGE = Path(__file__).parents[2] / "docs" / "mistakes.md"
RECIPE = "+recipe=math_rlvr/arithmetic"
ACTOR, ROLLOUT, MODEL = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.model"
REWARD = "reward.custom_reward_function"
HEAD = """# Common mistakes and their messages

`tests/docs/test_mistakes.py` runs every row and compares the output with this page. Rows without a command are
additions to `reinforcepp check +recipe=math_rlvr/arithmetic`. `train`, `create`, `slurm submit` and, for changed
settings, `resume` and `eval --set` print the same message; the exit code is 2.
"""
CONFIGURATIONS = {
    "Values": (
        f"{ACTOR}.optim.lr=fast",
        f"{ACTOR}.optim.lr=nan",
        f"{ACTOR}.optim.lr=-1e-6",
        f"{ACTOR}.optim.lr=[1e-6]",
        f'{ACTOR}.optim.lr="1e-4"',
        f"{ACTOR}.optim.betas=[0.9,1.0]",
        f"{ACTOR}.clip_ratio=nan",
        f"{ACTOR}.clip_ratio_low=-0.2",
        f"{ACTOR}.clip_ratio_c=0.5",
        f"{ACTOR}.ppo_epochs=1000000",
        f"{ACTOR}.ppo_mini_batch_size=64.0",
        f"{ACTOR}.use_kl_loss=maybe",
        "algorithm.kl_ctrl.kl_coef=inf",
        "algorithm.gamma=1.5",
        f"{ROLLOUT}.top_p=0",
        f"{ROLLOUT}.top_k=0.5",
        f"{ROLLOUT}.temperature=0",
        f"{ROLLOUT}.temperature=3",
        f"{ROLLOUT}.n=1e9",
        f"{ROLLOUT}.gpu_memory_utilization=70",
        "seed=12345678901234567890",
        "data.max_response_length=-5",
        "data.train_max_samples=half",
        "trainer.total_epochs=0",
        "trainer.total_training_steps=all",
        "trainer.save_freq=null",
        "guards.max_kl=inf",
    ),
    "Keys": (
        "algorithm.gama=0.9",
        "lr=1e-4",
        "n=8",
        "temperature=0.7",
        "actor.optim.lr=1e-4",
        "reward_model.reward_manager=dapo",
        "ray_kwargs.ray_init.num_cpu=4",
        "trainer.default_local_dir=/disk",
        "trainer.experiment_name=${trainer.nope}",
    ),
    "Names": (
        "algorithm.adv_estimator=reinforce++",
        f"{ACTOR}.policy_loss.loss_mode=vanila",
        "trainer.logger=[console,wandbb]",
        "trainer.logger=[console,mlflow]",
        "trainer.v1.trainer_mode=async",
        "preflight.allow=[kl_lose_gradient]",
        f"{ROLLOUT}.name=vlm",
        "trainer.resume_mode=always",
        "reward.reward_manager.name=naiv",
        "algorithm.kl_ctrl.type=fixd",
        "data.truncation=cut",
    ),
    "Algorithms that cannot run": (
        f"+method=grpo {ROLLOUT}.n=1",
        f"+method=rloo {ROLLOUT}.n=1",
        "+method=rloo algorithm.rollout_correction.rollout_is=token",
        f"+method=remax {ROLLOUT}.agent.agent_loop_manager_class=null",
        "algorithm.rollout_gate.limit=0.1",
        f"+method=reinforcepp_baseline {ROLLOUT}.n=1",
        "algorithm.adv_estimator=remax",
        "algorithm.kl_penalty=full",
        f"algorithm.use_kl_in_reward=false {ACTOR}.use_kl_loss=true {ACTOR}.kl_loss_type=k4",
        f"{ACTOR}.policy_loss.loss_mode=dppo_tv",
        f"{ACTOR}.policy_loss.loss_mode=dro",
        f"{ACTOR}.policy_loss.loss_mode=bypass_mode {ACTOR}.clip_ratio_c=3.0",
        "algorithm.rollout_correction.rollout_is=sentence",
        "algorithm.rollout_correction.rollout_rs=token_k1",
        f"algorithm.rollout_correction.bypass_mode=true {ROLLOUT}.calculate_log_probs=false",
        f"{ACTOR}.loss_agg_mode=seq-mean-token-sum-norm",
        "algorithm.kl_ctrl.type=adaptive algorithm.use_kl_in_reward=false",
        "algorithm.filter_groups.enable=true algorithm.filter_groups.metric=accuracy",
        "algorithm.reinforcepp.baseline=none",
    ),
    "Batches and engines": (
        f"{ACTOR}.ppo_mini_batch_size=7",
        f"{ACTOR}.use_dynamic_bsz=false",
        "trainer.n_gpus_per_node=5",
        f"{ROLLOUT}.tensor_model_parallel_size=2",
        f"{ROLLOUT}.max_model_len=4",
        f"{ROLLOUT}.prompt_length=4",
        f"{ROLLOUT}.dtype=fp8",
        f"{ACTOR}.strategy=fsdp",
    ),
    "Tools": (
        f"{ROLLOUT}.agent.default_agent_loop=tool_agent",
        f"{ROLLOUT}.multi_turn.enable=true",
        f"{ROLLOUT}.multi_turn.function_tool_path=my_reward.py data.function_tool_path=my_reward.py",
        f"{ROLLOUT}.multi_turn.tool_config_path=tools.yaml {ROLLOUT}.multi_turn.enable=true "
        f"{ROLLOUT}.agent.default_agent_loop=tool_agent",
    ),
    "Data, model and reward": (
        "data.train_files=data/arithmetic/trian.parquet",
        "data.prompt_key=question",
        "data.train_files=[]",
        f"{MODEL}.path=./modle",
        f"{MODEL}.path=data",
        f"{REWARD}.path=nowhere.py",
        f"{REWARD}.path=broken_reward.py",
        f"{REWARD}.path=my_reward.py {REWARD}.name=score",
        f"{REWARD}.path=two_arguments.py",
        "runs_dir=my_reward.py",
        f"{REWARD}.path=my_reward.py algorithm.filter_groups.enable=true algorithm.filter_groups.metric=acc",
    ),
}
COMMANDS = {
    "Commands": (
        ("check", RECIPE, "+cluster=cpu"),
        ("check", "recipe=math_rlvr/arithmetic"),
        ("check", "+recipe=math_rlvr/arithmetik"),
        ("check", RECIPE, "+method=reinforce++"),
        ("check", RECIPE, f"{ROLLOUT}.engine_kwargs.vllm.max_logprobs=1"),
        ("check", RECIPE, "ray_kwargs.ray_init._temp_dir=/disk"),
        ("check", RECIPE, "trainer.logger=[console"),
        ("check", "--config-dir", "mine", "+recipe=twice"),
        ("check", "--config-dir", "mine", "+recipe=tab"),
        ("check", "--config-dir", "mine", "+recipe=circle"),
        ("check", "--config-dir", "mine", "+recipe=multiplies"),
        ("check", RECIPE, "~trainer.nnodes"),
        ("check", RECIPE, "algorithm=grpo"),
        ("check", RECIPE, "trainer.logger=console,file"),
        ("eval", "runs/latest", f"{ROLLOUT}.val_kwargs.n=4"),
        ("slurm", "submit", RECIPE, "--time", "12"),
        ("slurm", "submit", RECIPE, "--time", "12h"),
    ),
}
FILES = {
    "my_reward.py": "def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n"
    '    right = float(solution_str == ground_truth)\n    return {"score": right, "right": right}\n',
    "broken_reward.py": "import my_metricz\n\n\ndef compute_score(**row):\n    return my_metricz.score(row)\n",
    "two_arguments.py": "def compute_score(answer, truth):\n    return float(answer == truth)\n",
    "mine/recipe/circle.yaml": "# @package _global_\ndefaults: [circle]\n",
    "mine/recipe/multiplies.yaml": "# @package _global_\ndefaults: [math_rlvr/arithmetic, _self_]\nl0: ha\n"
    + "".join(f"l{level + 1}: ${{l{level}}}${{l{level}}}\n" for level in range(40)),
    "mine/recipe/twice.yaml": "# @package _global_\ndefaults: [math_rlvr/arithmetic]\nseed: 1\nseed: 2\n",
    "mine/recipe/tab.yaml": "# @package _global_\ndefaults: [math_rlvr/arithmetic]\ntrainer:\n\ttotal_epochs: 2\n",
}


@pytest.fixture
def _with_files(arithmetic, tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(arithmetic / "data")
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)


def _table(title: str, rows: list[tuple[str, list[str]]]) -> str:
    lines = [f"## {title}", "", "| mistake | message |", "|---|---|"]
    for mistake, said in rows:
        assert said, f"no message about {mistake}"
        lines.append(f"| `{mistake}` | {'<br>'.join(said)} |")
    return "\n".join(lines) + "\n"


def _said(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def test_the_page_says_what_is_printed(compose, reinforcepp, _with_files):
    sections = []
    for title, mistakes in CONFIGURATIONS.items():
        rows = [(mistake, examine(compose(RECIPE, *mistake.split())).errors) for mistake in mistakes]
        sections.append(_table(title, [(mistake, [_said(error) for error in errors]) for mistake, errors in rows]))
    for title, commands in COMMANDS.items():
        printed = []
        for command in commands:
            done = reinforcepp(*command)
            assert done.exit_code == 2, done.output
            errors = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
            printed.append((f"reinforcepp {' '.join(command)}", [_said(error) for error in errors]))
        sections.append(_table(title, printed))
    page = "\n".join([HEAD, *sections])
    if os.environ.get("MISTAKES") == "write":
        PAGE.write_text(page, encoding="utf-8")
    assert sum(line.startswith("| `") for line in page.splitlines()) >= 60
    assert PAGE.read_text(encoding="utf-8") == page
