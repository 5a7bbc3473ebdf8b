"""`+reward_function=math` declares the options of the math reward, and `reward_errors` the handling of errors."""

from __future__ import annotations

import json

import hydra
import pytest
from hydra.errors import CompactHydraException
from omegaconf import OmegaConf
from verl.trainer.ppo.reward import get_custom_reward_fn, resolve_reward_manager_cls

from reinforcepp_verl.config import search_path
from reinforcepp_verl.config.math_reward_options import MathRewardOptions
from reinforcepp_verl.config.nodes import read_reward_errors
from reinforcepp_verl.config.reasoning_gym_reward_options import ReasoningGymRewardOptions
from reinforcepp_verl.config.reward_error_options import RewardErrorOptions
from reinforcepp_verl.config.schema import compose_base as compose
from reinforcepp_verl.integration.reward_manager import ReinforceppRewardManager
from reinforcepp_verl.preflight import reward_function, unknown_keys
from reinforcepp_verl.preflight.composition import explain

ARITHMETIC, MATH = "+recipe=math_rlvr/arithmetic", "+reward_function=math"
NODE = "reward.custom_reward_function"
KWARGS = f"{NODE}.reward_kwargs"


def test_the_math_reward_is_one_override_and_its_options_need_no_plus():
    config = compose(ARITHMETIC, MATH, f"{KWARGS}.score_scale=plus_minus_one")
    assert "reward_function" not in config, "Hydra took +reward_function= for a plain key"
    assert reward_function.check(config) == unknown_keys.check(config) == []
    expected = MathRewardOptions(score_scale="plus_minus_one")
    assert OmegaConf.to_object(config.reward.custom_reward_function.reward_kwargs) == expected
    score = get_custom_reward_fn(config)
    assert score(data_source="math", solution_str=r"\boxed{8}", ground_truth="7", extra_info={})["score"] == -1.0


def test_so_is_the_reasoning_gym_reward():
    config = compose(ARITHMETIC, "+reward_function=reasoning_gym", f"{KWARGS}.whole_text=true")
    assert reward_function.check(config) == unknown_keys.check(config) == []
    assert OmegaConf.to_object(config.reward.custom_reward_function.reward_kwargs).whole_text
    [problem] = reward_function.check(compose(ARITHMETIC, "+reward_function=reasoning_gym", f"{KWARGS}.workers=0"))
    assert problem == f"{KWARGS}.workers is 0: it must be > 0"


def test_our_reward_manager_is_the_default_and_another_is_one_override():
    assert resolve_reward_manager_cls(compose(ARITHMETIC)) is ReinforceppRewardManager
    verls = resolve_reward_manager_cls(compose(ARITHMETIC, "reward.reward_manager.name=dapo"))
    assert verls.__name__ == "DAPORewardManager"


def compose_file(folder, workers_key: str):
    """Compose a user's file."""
    defaults = "defaults:\n  - reinforcepp_trainer\n  - reward_function: math\n  - _self_\n"
    setting = OmegaConf.to_yaml(OmegaConf.from_dotlist([f"{KWARGS}.{workers_key}=7"]))
    (folder / "mine.yaml").write_text(defaults + setting)
    search_path.register()
    with hydra.initialize_config_dir(str(folder), version_base="1.3"):
        return hydra.compose("mine")


def test_a_file_may_set_the_options_but_not_invent_any(tmp_path):
    assert compose_file(tmp_path, "workers").reward.custom_reward_function.reward_kwargs.workers == 7
    with pytest.raises(CompactHydraException) as error:
        compose_file(tmp_path, "wokers")
    assert f"Key 'wokers' not in 'MathRewardOptions'; full_key: {KWARGS}.wokers" in explain(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"{KWARGS}.score_scal=1", f"{KWARGS}.score_scal: unknown key; did you mean {KWARGS}.score_scale?"),
        (f"{KWARGS}.workers=two", f"{KWARGS}.workers: Value 'two'"),
        ("reward_errors.max_rat=1", "reward_errors.max_rat: unknown key; did you mean reward_errors.max_rate?"),
        ("reward_errors.max_rate=often", "reward_errors.max_rate: Value 'often'"),
    ],
)
def test_hydra_refuses_names_and_types(override, message):
    with pytest.raises(CompactHydraException) as error:
        compose(MATH, override)
    assert explain(error.value).startswith(message)


BROKEN = [
    (f"{MATH} +{KWARGS}.score_scal=1", f"{KWARGS}.score_scal is not an option", "score_scale"),
    (f"{MATH} {KWARGS}.score_scale=both", f"{KWARGS}.score_scale is 'both'", "zero_one, plus_minus_one"),
    (f"{MATH} {KWARGS}.overlong_max_tokens=8", f"{KWARGS}.overlong_buffer_tokens is 0", "above 0"),
    (f"{NODE}.path=pkg://reinforcepp_verl.rewards.math +{KWARGS}.wokers=1", f"{KWARGS}.wokers is not an", "workers"),
    (f"{NODE}.path=pkg://reinforcepp_verl.rewards.math +{KWARGS}.workers=two", f"{KWARGS}: ", "+reward_function=math"),
    (f"{MATH} {NODE}.path=pkg://reinforcepp_verl.rewards.arithmetic", f"{NODE}.path is pkg", f"'~{KWARGS}'"),
    (
        f"{MATH} {KWARGS}.truncated_penalty=0 reward.reward_manager.name=dapo",
        "reward.reward_manager.name is dapo",
        "reward.reward_manager.name=reinforcepp",
    ),
    ("reward_errors=null", "reward_errors is null", "max_rate=1"),
    ("reward_errors.max_rate=1.5", "reward_errors.max_rate is 1.5", "from 0 to 1"),
    ("reward_errors.min_count=0", "reward_errors.min_count is 0", "1 or more"),
    ("reward_errors.score=inf", "reward_errors.score is inf", "finite"),
    ("reward_errors.score=nan", "reward_errors.score is nan", "nonfinite=drop"),
    (
        "reward_errors.score=1 reward.reward_manager.name=naive",
        "reward_errors is set",
        "reward.reward_manager.name=reinforcepp",
    ),
]


@pytest.mark.parametrize(("overrides", "start", "fix"), BROKEN, ids=[case[0] for case in BROKEN])
def test_the_preflight_refuses_invalid_values_of_the_right_type(overrides, start, fix):
    [problem] = reward_function.check(compose(ARITHMETIC, *overrides.split()))
    assert "\n" not in problem
    assert problem.startswith(start)
    assert fix in problem


@pytest.mark.parametrize(
    "overrides",
    [
        "reward_errors.score=nan algorithm.reinforcepp.nonfinite=drop",
        f"{MATH} {NODE}.path=pkg://reinforcepp_verl.rewards.arithmetic ~{KWARGS}",
        f"{MATH} {KWARGS}.truncated_penalty=0",
        f"+{KWARGS}.anything=1",
    ],
)
def test_the_preflight_accepts(overrides):
    config = compose(ARITHMETIC, *overrides.split())
    assert reward_function.check(config) == unknown_keys.check(config) == []


def test_the_node_is_read_as_written_and_defaults_apply_without_one():
    assert read_reward_errors(compose("reward_errors.score=-1")) == RewardErrorOptions(score=-1.0)
    assert read_reward_errors(OmegaConf.create({})) == RewardErrorOptions()
    assert read_reward_errors(OmegaConf.create({"reward_errors": {"min_count": 9}})).min_count == 9


@pytest.mark.parametrize(
    ("page", "options"),
    [
        ("rewards", MathRewardOptions()),
        ("rewards", RewardErrorOptions()),
        ("reasoning_gym", ReasoningGymRewardOptions()),
    ],
)
def test_the_page_lists_every_option_with_its_default(page, options):
    text = (search_path.config_dir().parent / "docs" / f"{page}.md").read_text()
    for name, default in vars(options).items():
        assert f"\n| `{name}` | {json.dumps(default)} |" in text, name
