"""Every number and every true or false: its type comes from verl's dataclasses, its range from one table."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from pydoc import locate

import pytest
from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.config import keys, schema, search_path
from reinforcepp_verl.config.dataclass_source import REPLACED, fields_of
from reinforcepp_verl.config.reading import FSDP_ENGINE, value
from reinforcepp_verl.preflight import examine, value_kinds, value_types
from reinforcepp_verl.preflight.value_kinds import BOOLEAN, INTEGER, Kind
from reinforcepp_verl.preflight.value_ranges import LARGEST, range_of
from reinforcepp_verl.runs.resume_run import prepare

RECIPE = "+recipe=math_rlvr/arithmetic"
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"

# overrides, and the parts of the one line about them
WRONG = [
    (f"{ACTOR}.optim.lr='1e-4'", f"{ACTOR}.optim.lr is '1e-4': it is text", "remove the quotes"),
    (f"{ACTOR}.optim.lr=nan", f"{ACTOR}.optim.lr is nan", "a number from 0 to 1"),
    (f"{ACTOR}.optim.lr=inf", f"{ACTOR}.optim.lr is inf", "a number from 0 to 1"),
    (f"{ACTOR}.optim.lr=-1e-6", f"{ACTOR}.optim.lr is -1e-06", f"set {ACTOR}.optim.lr=1e-06"),
    (f"{ACTOR}.optim.lr=[1e-6]", f"{ACTOR}.optim.lr is [1e-06]", "a number from 0 to 1"),
    (f"{ACTOR}.optim.lr={{a: 1}}", f"{ACTOR}.optim.lr is {{'a': 1}}", "a number from 0 to 1"),
    (f"{ACTOR}.optim.lr=null", f"{ACTOR}.optim.lr is None", "a number from 0 to 1"),
    (f"{ACTOR}.optim.betas=[0.9]", f"{ACTOR}.optim.betas is [0.9]", "a list of 2, each a number >= 0 and < 1"),
    (f"{ACTOR}.optim.betas=[0.9,1]", f"{ACTOR}.optim.betas is [0.9, 1]", f"set {ACTOR}.optim.betas=[0.9,0.999]"),
    (f"{ACTOR}.optim.betas=0.9", f"{ACTOR}.optim.betas is 0.9", "a list of 2"),
    (f"{ACTOR}.optim.lr_warmup_steps=1.5", f"{ACTOR}.optim.lr_warmup_steps is 1.5", "an integer >= -1"),
    (f"{ACTOR}.optim.lr_warmup_steps_ratio=2", f"{ACTOR}.optim.lr_warmup_steps_ratio is 2", "a number from 0 to 1"),
    ("critic.optim.lr=fast", "critic.optim.lr is 'fast'", "a number from 0 to 1"),
    ("critic.cliprange_value=-1", "critic.cliprange_value is -1", "a finite number >= 0"),
    (f"{ACTOR}.clip_ratio=nan", f"{ACTOR}.clip_ratio is nan", "a finite number >= 0"),
    (f"{ACTOR}.clip_ratio_low=-0.2", f"{ACTOR}.clip_ratio_low is -0.2", f"set {ACTOR}.clip_ratio_low=0.2"),
    (f"{ACTOR}.clip_ratio_c=nan", f"{ACTOR}.clip_ratio_c is nan", "or null"),
    (f"{ACTOR}.tau_pos=0", f"{ACTOR}.tau_pos is 0", "a finite number > 0"),
    (f"{ACTOR}.ppo_epochs=1000000", f"{ACTOR}.ppo_epochs is 1000000", "an integer from 1 to 1000"),
    (f"{ACTOR}.entropy_coeff=-inf", f"{ACTOR}.entropy_coeff is -inf", "a finite number"),
    (f"{ACTOR}.policy_loss.ppo_kl_coef=-1", f"{ACTOR}.policy_loss.ppo_kl_coef is -1", "a finite number >= 0"),
    (f"{ACTOR}.ppo_mini_batch_size=64.0", f"{ACTOR}.ppo_mini_batch_size is 64.0", "an integer >= 1"),
    (f"{ACTOR}.ppo_max_token_len_per_gpu=lots", f"{ACTOR}.ppo_max_token_len_per_gpu is 'lots'", "an integer >= 1"),
    ("algorithm.kl_ctrl.kl_coef=inf", "algorithm.kl_ctrl.kl_coef is inf", "set algorithm.kl_ctrl.kl_coef=0.001"),
    ("algorithm.kl_ctrl.horizon=0", "algorithm.kl_ctrl.horizon is 0", "an integer >= 1"),
    ("algorithm.lam=1.5", "algorithm.lam is 1.5", "set algorithm.lam=1.0"),
    ("algorithm.gamma=true", "algorithm.gamma is True", "set algorithm.gamma=1.0"),
    ("algorithm.rollout_correction.rollout_is_threshold=-2", "rollout_is_threshold is -2", "a finite number > 0"),
    (f"{ROLLOUT}.top_p=0", f"{ROLLOUT}.top_p is 0", f"a number > 0 and <= 1; set {ROLLOUT}.top_p=1.0"),
    (f"{ROLLOUT}.top_p=1.1", f"{ROLLOUT}.top_p is 1.1", "a number > 0 and <= 1"),
    (f"{ROLLOUT}.top_k=-2", f"{ROLLOUT}.top_k is -2", f"set {ROLLOUT}.top_k=-1"),
    (f"{ROLLOUT}.top_k=0.5", f"{ROLLOUT}.top_k is 0.5", "an integer >= -1"),
    (f"{ROLLOUT}.val_kwargs.top_p=nan", f"{ROLLOUT}.val_kwargs.top_p is nan", "a number > 0 and <= 1"),
    (f"{ROLLOUT}.val_kwargs.temperature=-1", f"{ROLLOUT}.val_kwargs.temperature is -1", "a number from 0 to 2"),
    (f"{ROLLOUT}.temperature=3", f"{ROLLOUT}.temperature is 3", "a number from 0 to 2"),
    (f"{ROLLOUT}.temperature=0", f"{ROLLOUT}.temperature is 0", "every answer to a prompt would be the same"),
    (f"{ROLLOUT}.temperature=0.001", f"{ROLLOUT}.temperature is 0.001", "vLLM samples at 0.01"),
    (f"{ROLLOUT}.top_k=1", f"{ROLLOUT}.top_k is 1", "every answer to a prompt would be the same"),
    (f"{ROLLOUT}.n=1e9", f"{ROLLOUT}.n is 1000000000.0", "an integer from 1 to 65536"),
    (f"{ROLLOUT}.n=1000000000", f"{ROLLOUT}.n is 1000000000", "an integer from 1 to 65536"),
    (f"{ROLLOUT}.n=-4", f"{ROLLOUT}.n is -4", "an integer from 1 to 65536"),
    (f"{ROLLOUT}.n='4'", f"{ROLLOUT}.n is '4': it is text", "remove the quotes"),
    (f"{ROLLOUT}.gpu_memory_utilization=1.5", f"{ROLLOUT}.gpu_memory_utilization is 1.5", "> 0 and < 1"),
    (f"{ROLLOUT}.max_num_seqs=0", f"{ROLLOUT}.max_num_seqs is 0", "an integer >= 1"),
    (f"{ROLLOUT}.agent.num_workers=0", f"{ROLLOUT}.agent.num_workers is 0", "an integer from 1 to 65536"),
    (f"{ROLLOUT}.prometheus.port=99999", f"{ROLLOUT}.prometheus.port is 99999", "an integer from 0 to 65535"),
    ("seed=12345678901234567890", "seed is 12345678901234567890", "an integer from 0 to 2147483647; set seed=1"),
    ("seed=-1", "seed is -1", "set seed=1"),
    ("data.seed=1.5", "data.seed is 1.5", "an integer from 0 to 2147483647"),
    ("data.max_response_length=-5", "data.max_response_length is -5", "an integer >= 1"),
    ("data.max_prompt_length=[16]", "data.max_prompt_length is [16]", "an integer >= 1"),
    ("data.train_batch_size=99999999999999999999", "data.train_batch_size is 99999", "an integer from 1 to 9223372"),
    ("data.dataloader_num_workers=-1", "data.dataloader_num_workers is -1", "an integer from 0 to 65536"),
    ("data.train_max_samples=half", "data.train_max_samples is 'half'", "an integer >= -1"),
    ("reward.num_workers=0", "reward.num_workers is 0", "an integer from 1 to 65536"),
    ("trainer.total_epochs=inf", "trainer.total_epochs is inf", "an integer >= 1"),
    ("trainer.total_training_steps=-5", "trainer.total_training_steps is -5", "an integer >= 1, or to null"),
    ("trainer.save_freq=often", "trainer.save_freq is 'often'", "an integer >= -1"),
    ("trainer.test_freq=0.5", "trainer.test_freq is 0.5", "an integer >= -1"),
    ("trainer.nnodes=0", "trainer.nnodes is 0", "an integer >= 1"),
    ("trainer.max_actor_ckpt_to_keep=0", "trainer.max_actor_ckpt_to_keep is 0", "or to null"),
    ("trainer.v1.sampler.max_off_policy_threshold=0", "max_off_policy_threshold is 0", "or to null"),
    (f"{keys.SAMPLER_KWARGS}.poll_interval_s=0", f"{keys.SAMPLER_KWARGS}.poll_interval_s is 0", "number > 0"),
    ("guards.max_kl=inf", "guards.max_kl is inf", "a finite number"),
    ("algorithm.reinforcepp.reward_scale=nan", "algorithm.reinforcepp.reward_scale is nan", "finite and > 0"),
    (f"{ACTOR}.use_kl_loss=[true]", f"{ACTOR}.use_kl_loss is [True]", "it must be true or false"),
    (f"{ACTOR}.shuffle=2", f"{ACTOR}.shuffle is 2", f"set {ACTOR}.shuffle=false"),
    (f"{ACTOR}.use_rollout_log_probs='no'", f"{ACTOR}.use_rollout_log_probs is 'no'", "it must be true or false"),
]


@pytest.fixture(autouse=True)
def _in_arithmetic(arithmetic, monkeypatch):
    monkeypatch.chdir(arithmetic)


@pytest.mark.parametrize(("overrides", "start", "fix"), WRONG, ids=[case[0] for case in WRONG])
def test_a_wrong_value_gives_one_line_with_what_is_valid(compose, overrides, start, fix):
    found = examine(compose(RECIPE, overrides)).errors
    assert len(found) == 1, found
    assert start in found[0] and fix in found[0] and "\n" not in found[0], found


@pytest.mark.parametrize(
    "overrides",
    [
        f"{ACTOR}.optim.lr=1 {ACTOR}.clip_ratio=0 {ROLLOUT}.temperature=2 {ROLLOUT}.top_p=1",
        f"{ACTOR}.optim.betas=[0,0.5] {ACTOR}.entropy_coeff=-0.01 {ROLLOUT}.top_k=50 {ROLLOUT}.val_kwargs.top_k=1",
        f"seed=0 data.seed=null {ROLLOUT}.val_kwargs.temperature=0 {ROLLOUT}.temperature=0.01",
        f"{ACTOR}.shuffle=1 {ACTOR}.clip_ratio_low=null {ROLLOUT}.max_num_seqs=null",
        "algorithm.rollout_correction.rollout_is_threshold='0.5_5.0'",
        f"trainer.val_only=true {ROLLOUT}.temperature=0",
    ],
)
def test_the_ends_of_the_ranges_are_valid(compose, overrides):
    assert examine(compose(RECIPE, *overrides.split())).errors == []


def test_a_reference_is_judged_by_what_it_refers_to(compose):
    config = compose(RECIPE, "mine=abc", f"{ROLLOUT}.n='${{mine}}'", "preflight.allow=[]")
    [problem] = examine(config).errors
    assert problem.startswith(f"{ROLLOUT}.n is 'abc'")


def _all_kinds(config: DictConfig) -> Iterator[tuple[str, value_kinds.Kind]]:
    return value_kinds._walk(schema.as_tree(config), {}, schema.base(FSDP_ENGINE), "")


@pytest.mark.parametrize("engine", ["dp", "megatron"])
def test_the_base_itself_is_valid(engine):
    config = schema.base(engine).copy()
    config.trainer.nnodes = 2
    assert [key for key, _ in value_kinds.changed_kinds(config)] == ["trainer.nnodes"]
    everything = ((key, kind, value(config, key)) for key, kind in _all_kinds(config))
    assert [key for key, kind, given in everything if not value_types._is_valid(key, given, kind)] == []


@pytest.mark.parametrize("recipe", search_path.recipe_names())
def test_the_recipes_are_valid(compose, recipe):
    assert value_types.check(compose(f"+recipe={recipe}")) == []


def test_every_number_has_a_range():
    config = schema.base("dp")
    missing = [key for key, kind in _all_kinds(config) if kind.name != BOOLEAN and range_of(key) is None]
    assert missing == []


def _targets() -> list[str]:
    found = [value_kinds.VERL_NODES[node] for node in value_kinds.VERL_NODES] + [
        text for key, text in schema.text_values(schema.as_tree(schema.base("dp"))) if key.endswith("_target_")
    ]
    return sorted({REPLACED.get(target, target) for target in found})


@pytest.mark.parametrize("target", _targets())
def test_the_types_are_those_of_verls_dataclasses(target):
    cls = locate(target)
    read, hints = fields_of(target), typing.get_type_hints(cls)
    names = {field.name for field in dataclasses.fields(cls)} - {"_target_"}
    assert read.keys() >= names
    for name in names:
        assert value_kinds.of_annotation(read[name].annotation) == _kind(hints[name]), name


def _kind(hint: object) -> Kind | None:
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    rest = [part for part in parts if part not in (str, type(None))]
    null, text = type(None) in parts, str in parts
    if len(rest) != 1:
        return None
    numbers = {bool: BOOLEAN, int: INTEGER, float: "float"}
    if rest[0] in numbers:
        return Kind(numbers[rest[0]], null, or_text=text)
    elements, origin = typing.get_args(rest[0]), typing.get_origin(rest[0])
    if origin not in (list, tuple) or elements[0] not in numbers:
        return None
    return Kind(numbers[elements[0]], null, listed=True, length=len(elements) if origin is tuple else None)


def test_numbers_that_no_library_can_store_are_out_of_range():
    assert not range_of(f"{ACTOR}.entropy_coeff").contains(math.nan)
    assert not range_of("data.train_batch_size").contains(LARGEST + 1)


@pytest.mark.parametrize(
    "overrides", [[f"{ACTOR}.optim.lr=nan"], [f"{ROLLOUT}.n=1e9"], [f"{ROLLOUT}.temperature=0"], ["seed=one"]]
)
def test_resume_refuses_the_same_values(compose, tmp_path, overrides):
    from reinforcepp_verl.runs import launch

    run = launch.new_run(compose(RECIPE, f"runs_dir={tmp_path}"))
    key = overrides[0].partition("=")[0]
    with pytest.raises(ValueError, match=rf"^{key} is "):
        prepare(run, overrides)


def test_a_saved_configuration_is_checked_too(compose, tmp_path):
    from reinforcepp_verl.runs import launch

    run = launch.new_run(compose(RECIPE, f"runs_dir={tmp_path}"))
    saved = OmegaConf.load(run.config)
    saved.actor_rollout_ref.actor.optim.lr = "fast"
    OmegaConf.save(saved, run.config)
    with pytest.raises(ValueError, match=r"optim.lr is 'fast'"):
        prepare(run, [])
