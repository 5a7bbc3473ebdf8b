"""Names that verl would look at late, and settings that are missing, refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from reinforcepp_verl.preflight import choices, engines, examine, reward_import, run_settings, unknown_keys
from reinforcepp_verl.preflight.registered_names import OWN_MODULES

RECIPE = "+recipe=math_rlvr/arithmetic"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trainer.resume_mode=always", "is always: no such name; set it to one of disable, auto, resume_path"),
        (
            "algorithm.kl_ctrl.type=fixd",
            "is fixd: no such name (did you mean fixed?); set it to one of fixed, adaptive",
        ),
        ("data.truncation=cut", "is cut: no such name; set it to one of error, left, right, middle"),
        (
            "actor_rollout_ref.rollout.multi_turn.tool_response_truncate_side=center",
            "is center: no such name; set it to one of left, middle, right",
        ),
        ("actor_rollout_ref.rollout.name=vlm", "is vlm: no such name (did you mean vllm?); set it to one of vllm, "),
        ("reward.reward_manager.name=naiv", "is naiv: no such name (did you mean naive?); set it to one of reinforce"),
        ("trainer.resume_mode=null", "is None: no such name; set it to one of disable, auto, resume_path"),
    ],
)
def test_a_name_that_verl_does_not_know(compose, override, says):
    [error] = choices.check(compose(RECIPE, override))
    assert error.startswith(f"{override.partition('=')[0]} {says}")


def test_the_lists_are_those_of_verl():
    from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER
    from verl.workers.rollout.base import _ROLLOUT_REGISTRY

    import reinforcepp_verl.plugin  # noqa: F401

    assert set(choices.REWARD_MANAGERS) <= set(REWARD_MANAGER)
    assert set(choices.CHOICES["actor_rollout_ref.rollout.name"]) == {name for name, _ in _ROLLOUT_REGISTRY}


@pytest.mark.parametrize("own", ["reward.reward_manager.source=importlib", OWN_MODULES])
def test_a_reward_manager_of_the_users(compose, monkeypatch, own):
    if own == OWN_MODULES:
        monkeypatch.setenv(OWN_MODULES, "mine")
    config = compose(RECIPE, "reward.reward_manager.name=mine", *([] if own == OWN_MODULES else [own]))
    assert choices.check(config) == []


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        ("trainer.nnodes", "trainer.nnodes"),
        ("actor_rollout_ref.actor.optim", "actor_rollout_ref.actor.optim"),
        ("data", "data"),
    ],
)
def test_a_key_that_is_removed(compose, removed, said):
    config = compose(RECIPE)
    parent, _, name = removed.rpartition(".")
    OmegaConf.set_struct(config, False)
    del (OmegaConf.select(config, parent) if parent else config)[name]
    assert f"{said}: it is removed, but read; leave out ~{said}" in unknown_keys.check(config)


def test_what_is_passed_on_unchanged_may_be_removed(compose):
    config = compose(RECIPE)
    OmegaConf.set_struct(config, False)
    del config.actor_rollout_ref.model.override_config["attn_implementation"]
    assert unknown_keys.check(config) == []


def test_a_node_that_is_null(compose):
    [error] = examine(compose(RECIPE, "actor_rollout_ref.rollout=null")).errors[:1]
    assert error.startswith("actor_rollout_ref.rollout: is None, but must have the keys ")


def test_a_folder_for_runs_that_is_a_file(compose, tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below"):
        [error] = run_settings.check(compose(RECIPE, f"runs_dir={path}"))
        assert error == f"runs_dir is {path}: {file} is a file; set runs_dir to a folder"


def test_an_engine_that_would_cut_prompts(compose):
    [error] = engines.check(compose(RECIPE, "actor_rollout_ref.rollout.prompt_length=5"))
    assert error.startswith("actor_rollout_ref.rollout.prompt_length is 5: prompts of up to 16 tokens would lose their")


def test_an_engine_that_does_not_run_on_a_cpu(compose):
    [error] = engines.check(compose(RECIPE, "actor_rollout_ref.rollout.name=sglang"))
    assert error.startswith("actor_rollout_ref.rollout.name is sglang: only vLLM runs on a CPU; set ")


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ("a, b", "", "missing a required argument: 'a'"),
        ("data_source, solution_str, ground_truth", "", "got an unexpected keyword argument 'extra_info'"),
        ("data_source, solution_str, ground_truth, extra_info", "{k: 1}", "got an unexpected keyword argument 'k'"),
        ("data_source, solution_str, ground_truth, extra_info=None", "", None),
        ("solution_str, ground_truth, k=0, **_", "{k: 1}", None),
        ("**row", "{k: 1}", None),
    ],
)
def test_a_reward_function_with_other_arguments(compose, tmp_path, arguments, options, says):
    file = Path(tmp_path, "mine.py")
    file.write_text(f"def compute_score({arguments}):\n    return 1.0\n")
    node = "reward.custom_reward_function"
    given = [f"{node}.path={file}", *([f"{node}.reward_kwargs={options}"] if options else [])]
    errors = reward_import.check(compose(RECIPE, *given))
    if says is None:
        assert errors == []
    else:
        [error] = errors
        assert error.startswith(f"{node}.name is compute_score: verl calls it with data_source, solution_str, ")
        assert error.endswith(f": {says}; correct its arguments")
