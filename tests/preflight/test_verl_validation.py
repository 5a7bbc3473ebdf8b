"""A configuration that `check` accepts without importing verl is accepted by verl's own validation too."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from reinforcepp_verl.config import keys, schema, search_path
from reinforcepp_verl.preflight import verl_validation

ACTOR = "actor_rollout_ref.actor"
# The files with `validate_config` and the classes of the actor's node. If one changes, see whether ACCEPTED_VALUES,
# UNCHECKED and `certainly_valid` still match what verl reads, then update the digest.
READ_BY_VALIDATION = {
    "base_config.py": "fd61bac6c143644b",
    "utils/config.py": "aa932e22b44f24ce",
    "utils/profiler/config.py": "318872890d30fccc",
    "utils/qat/core.py": "be65fdcdd2c6cfc8",
    "trainer/config/config.py": "95429fa2f0a0fba0",
    "workers/config/actor.py": "fcae09fb8db42f0e",
    "workers/config/engine.py": "5b609fa85554ef1f",
    "workers/config/optimizer.py": "05933cde529725bc",
}
# With LoRA, or bounds of an importance ratio ("0.5_5.0"), which verl parses.
NEED_VERL = {
    *("math_rlvr/qwen25_15b_math_lora", "math_rlvr/qwen25_7b_dapo_colocate_async", "math_rlvr/qwen3_4b_dapo_baseline"),
    *("math_rlvr/qwen25_7b_dapo_separate_async", "math_rlvr/r1_distill_15b_prorl"),
}


@pytest.mark.parametrize("file", READ_BY_VALIDATION)
def test_the_code_of_verls_validation_is_unchanged(file):
    [folder] = find_spec("verl").submodule_search_locations
    digest = hashlib.blake2b((Path(folder) / file).read_bytes(), digest_size=8).hexdigest()
    assert digest == READ_BY_VALIDATION[file]


@pytest.mark.parametrize("recipe", search_path.recipe_names())
def test_verl_accepts_the_recipes(compose, recipe):
    config = compose(f"+recipe={recipe}")
    assert verl_validation.certainly_valid(config) == (recipe not in NEED_VERL)
    assert verl_validation.refusals(config) == []


def test_verl_checks_no_type_of_the_keys_that_may_have_any_value(compose):
    config = compose("+recipe=math_rlvr/arithmetic")
    leaves = dict(schema.leaves(schema.base_node(keys.ACTOR)))
    free = [key for key in leaves if verl_validation.may_have_any_value(key)]
    assert len(free) > 40
    for key in free:
        OmegaConf.update(config, f"{ACTOR}.{key}", "junk", force_add=True)
    assert verl_validation.certainly_valid(config)
    assert verl_validation.refusals(config) == []


@pytest.mark.parametrize(
    "override",
    [
        f"{ACTOR}.loss_agg_mode=mean",
        f"{ACTOR}.strategy=fsdp3",
        f"{ACTOR}.optim.lr_scheduler_type=linear",
        f"{ACTOR}.optim.warmup_style=linear",
        f"{ACTOR}.profiler.ranks=0",
        f"{ACTOR}.fsdp_config.strategy=fsdp3",
        f"{ACTOR}.optim.lr='???'",
        f"{ACTOR}.policy_loss._target_=verl.workers.config.CheckpointConfig",
        "actor_rollout_ref.rollout.temperature=0",
        "actor_rollout_ref.model.lora_rank=1000",
        "actor_rollout_ref.ref.log_prob_micro_batch_size=1",
        "critic.enable=true",
        "algorithm.rollout_correction.rollout_is=token algorithm.rollout_correction.rollout_is_threshold=a",
    ],
)
def test_verls_validation_runs_where_it_may_refuse(compose, override):
    config = compose("+recipe=math_rlvr/arithmetic", *override.split())
    assert not verl_validation.certainly_valid(config)
