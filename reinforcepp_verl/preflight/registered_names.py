"""Names that verl looks up only at the first training step: the advantage estimator and the policy loss."""

from __future__ import annotations

from collections.abc import Iterable

from omegaconf import DictConfig

from reinforcepp_verl.common.wording import did_you_mean, first_line
from reinforcepp_verl.config.reading import value

ESTIMATOR, LOSS = "algorithm.adv_estimator", "actor_rollout_ref.actor.policy_loss.loss_mode"
IMPORT_ERRORS = (ImportError, AttributeError, AssertionError, LookupError, TypeError, ValueError, RuntimeError, OSError)


def check(config: DictConfig) -> list[str]:
    """Import the plugin as verl's processes do, then look both names up in verl's registries."""
    try:
        # verl imports it too, but logs a failure at DEBUG level and goes on without.
        from reinforcepp_verl import plugin  # noqa: F401
    except IMPORT_ERRORS as error:
        return [
            f"reinforcepp_verl.plugin: the import fails with {type(error).__name__}: {first_line(error)}; "
            "`python -c 'import reinforcepp_verl.plugin'` shows where"
        ]
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

    return [
        *_registered(ESTIMATOR, value(config, ESTIMATOR), ADV_ESTIMATOR_REGISTRY),
        *_registered(LOSS, value(config, LOSS), POLICY_LOSS_REGISTRY),
    ]


def _registered(key: str, name: object, known: Iterable[str]) -> list[str]:
    known = sorted(known)
    if name in known:
        return []
    return [f"{key} is {name}: there is no such name{did_you_mean(name, known)}; known: {', '.join(known)}"]
