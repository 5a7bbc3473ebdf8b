"""verl's own validation of the configuration, which would otherwise run only in the training process."""

from __future__ import annotations

import contextlib
import io
import warnings

from hydra.errors import InstantiationException
from omegaconf import DictConfig

from reinforcepp_verl.common.wording import first_line
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.sizing.model_size import model_folder


def check(config: DictConfig) -> list[str]:
    """Run `validate_config` on a copy, without its output."""
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
