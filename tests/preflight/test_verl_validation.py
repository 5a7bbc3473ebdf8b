"""What `check` passes without importing verl, verl's own validation passes too."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from reinforcepp_verl.config import keys, schema, search_path
from reinforcepp_verl.preflight import verl_validation

ACTOR = "actor_rollout_ref.actor"
# Each file that `validate_config` and the classes of the actor's node are in. Where one changes, look whether CHOICES,
# UNCHECKED and `agrees` still say what verl looks at, then take over the new digest.
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
METHODS = ("reinforcepp", "reinforcepp_baseline", "grpo", "rloo", "raft")


@pytest.mark.parametrize("file", READ_BY_VALIDATION)
def test_verl_validates_what_it_did(file):
    [folder] = find_spec("verl").submodule_search_locations
    digest = hashlib.blake2b((Path(folder) / file).read_bytes(), digest_size=8).hexdigest()
    assert digest == READ_BY_VALIDATION[file]


@pytest.mark.parametrize("recipe", search_path.recipe_names())
def test_verl_accepts_the_recipes_that_it_is_not_asked_about(compose, recipe):
    for method in METHODS:
        config = compose(f"+recipe={recipe}", f"+method={method}")
        assert not verl_validation.agrees(config) or verl_validation.refusals(config) == []


def test_most_recipes_need_no_import_of_verl(compose):
    asked = {name for name in search_path.recipe_names() if not verl_validation.agrees(compose(f"+recipe={name}"))}
    assert asked == {"math_rlvr/qwen25_15b_math_lora"}


def test_verl_checks_no_type_of_the_keys_that_may_have_any_value(compose):
    config = compose("+recipe=math_rlvr/arithmetic")
    leaves = dict(verl_validation._leaves(schema.base_node(keys.ACTOR)))
    free = [key for key in leaves if verl_validation.may_have_any_value(key)]
    assert len(free) > 40
    for key in free:
        OmegaConf.update(config, f"{ACTOR}.{key}", "junk", force_add=True)
    assert verl_validation.agrees(config)
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
def test_verl_is_asked_where_it_may_refuse(compose, override):
    config = compose("+recipe=math_rlvr/arithmetic", *override.split())
    assert not verl_validation.agrees(config)
