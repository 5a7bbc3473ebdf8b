"""verl's own validation of the configuration, which would otherwise run only in the training process.

Importing verl takes seconds. It is skipped if the configuration differs from verl's defaults only in keys that verl's
validation does not read or that earlier stages check. tests/preflight/test_verl_validation.py compares the two.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from fnmatch import fnmatch

from hydra.errors import InstantiationException
from omegaconf import MISSING, DictConfig

from reinforcepp_verl.common.wording import first_line
from reinforcepp_verl.config import keys, schema
from reinforcepp_verl.config.reading import FSDP_ENGINE, is_number, value
from reinforcepp_verl.sizing.layout import needs_reference
from reinforcepp_verl.sizing.model_size import model_folder

# Keys of the actor, which verl converts to a dataclass without checking types. All others must have the base's value.
ACCEPTED_VALUES: dict[str, tuple[object, ...]] = {
    "strategy": ("fsdp", "fsdp2"),
    "loss_agg_mode": (
        *("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"),
    ),
    "optim.lr_scheduler_type": ("constant", "cosine"),
    "optim.warmup_style": (None,),
}
UNCHECKED = (
    *("calculate_*", "clip_ratio*", "data_loader_seed", "entropy_*", "grad_clip", "kl_loss_*", "loss_scale_factor"),
    *("shuffle", "tau_*", "use_fused_kernels", "use_kl_loss", "use_remove_padding", "use_torch_compile"),
    *("checkpoint.load_contents", "checkpoint.save_contents", "optim.*"),
    *("fsdp_config.dtype", "fsdp_config.entropy_*", "fsdp_config.forward_prefetch", "fsdp_config.fsdp_size"),
    "fsdp_config.mixed_precision*",
    *("fsdp_config.model_dtype", "fsdp_config.*offload*", "fsdp_config.reshard_after_forward", "fsdp_config.seed"),
    *("fsdp_config.use_no_sync_*", "fsdp_config.use_orig_params", "fsdp_config.use_torch_compile"),
    *("fsdp_config.wrap_policy.*", "policy_loss.clip_cov_*", "policy_loss.kl_cov_ratio", "policy_loss.ppo_kl_coef"),
)
CHECKED_BEFORE = (
    *("policy_loss.loss_mode", "policy_loss.options*", "policy_loss.rollout_correction*", "ppo_epochs"),
    "ppo_max_token_len_per_gpu",
    *("ppo_micro_batch_size_per_gpu", "ppo_mini_batch_size", "rollout_n", "use_dynamic_bsz"),
)
"""Keys that registered_names, losses and batch_sizes check."""


def check(config: DictConfig) -> list[str]:
    """Let verl validate the configuration unless it is certain to accept it."""
    return [] if certainly_valid(config) else refusals(config)


def certainly_valid(config: DictConfig) -> bool:
    """Return True if verl's validation accepts every configuration like this that passed the earlier stages."""
    deprecated = (keys.ROLLOUT_LOG_PROB_MICRO_BATCH_SIZE, keys.REF_LOG_PROB_MICRO_BATCH_SIZE)
    if any(value(config, key) is not None for key in deprecated):
        return False
    by_rows = not value(config, keys.ACTOR_USE_DYNAMIC_BSZ) and needs_reference(config)
    if by_rows and value(config, keys.REF_LOG_PROB_MICRO_BATCH_SIZE_PER_GPU) is None:
        return False
    if any(value(config, key) != 0 for key in (keys.LORA_RANK, keys.MEGATRON_LORA_RANK)):
        return False
    positive = [keys.TEMPERATURE, *([keys.ROLLOUT_IS_THRESHOLD] if value(config, keys.ROLLOUT_IS) else [])]
    if not all(is_number(given := value(config, key)) and given > 0 for key in positive):
        return False
    # verl reads a critic's model with transformers.
    plain = value(config, keys.MODEL_ENGINE) == FSDP_ENGINE and value(config, keys.CRITIC_ENABLE) is False
    return plain and _actor_is_certainly_valid(config)


def _actor_is_certainly_valid(config: DictConfig) -> bool:
    base, given = (
        dict(schema.leaves(tree)) for tree in (schema.base_node(keys.ACTOR), schema.resolved(config, keys.ACTOR))
    )
    for key in base.keys() | given.keys():
        if key in ACCEPTED_VALUES:
            if given.get(key) not in ACCEPTED_VALUES[key]:
                return False
        elif base.get(key) != given.get(key):
            checked = any(fnmatch(key, pattern) for pattern in CHECKED_BEFORE)
            if not (checked or may_have_any_value(key)) or given.get(key) == MISSING:
                return False
    return True


def may_have_any_value(key: str) -> bool:
    """Return True if verl's validation reads neither the value nor the type of a key of the actor."""
    named = any(fnmatch(key, pattern) for pattern in UNCHECKED)
    return named and key not in ACCEPTED_VALUES and not key.endswith("_target_")


def refusals(config: DictConfig) -> list[str]:
    """Run verl's `validate_config` on a copy, without its output."""
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    config = config.copy()
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # verl would query the hub for a critic that is not downloaded yet.
            critic = need_critic(config) and model_folder(config.critic.model.path) is not None
            validate_config(config, need_reference_policy(config), critic)
    except InstantiationException as error:
        # The first line names the class; the cause has the key and the reason.
        reason = first_line(error.__cause__) if error.__cause__ else first_line(error)
        where = str(error).rpartition("full_key:")[2].strip()
        return [f"verl refuses the configuration: {f'{where}: ' if where else ''}{reason}"]
    except (AssertionError, ValueError, TypeError) as error:
        return [f"verl refuses the configuration: {first_line(error)}"]
    return _weights(config)


def _weights(config: DictConfig) -> list[str]:
    """Parse the bounds of the importance weights, which verl does only on first use."""
    from verl.trainer.ppo.rollout_corr_helper import _parse_rollout_is_threshold

    if not value(config, keys.ROLLOUT_IS):
        return []
    key = keys.ROLLOUT_IS_THRESHOLD
    try:
        _parse_rollout_is_threshold(value(config, key))
    except (ValueError, TypeError) as error:
        return [f"{key} is {value(config, key)!r}: {first_line(error)}; set {key}=2.0, or {key}='0.5_5.0' for IcePop"]
    return []
