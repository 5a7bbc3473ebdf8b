"""verl's own validation, which would otherwise run only in the training process."""

from __future__ import annotations

import contextlib
import io
import warnings

from hydra.errors import InstantiationException
from omegaconf import DictConfig

from reinforcepp_verl.preflight.values import first_line


def check(config: DictConfig) -> list[str]:
    """Run `validate_config` on a copy, without what it prints."""
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    config = config.copy()
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            validate_config(config, need_reference_policy(config), need_critic(config))
    except InstantiationException as error:
        # The first line names the class; the cause says what is wrong with which key.
        reason = first_line(error.__cause__) if error.__cause__ else first_line(error)
        where = str(error).rpartition("full_key:")[2].strip()
        return [f"verl refuses the configuration: {f'{where}: ' if where else ''}{reason}"]
    except (AssertionError, ValueError, TypeError) as error:
        return [f"verl refuses the configuration: {first_line(error)}"]
    return []
