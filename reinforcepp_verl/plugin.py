"""Importing this module registers REINFORCE++ with verl; it is the target of the `verl.plugins` entry point.

verl imports it in every process (driver, trainer, FSDP workers, agent loops, reward workers) and calls nothing.
Modules that register an estimator or a loss import the functions for it from here: docs/write_your_own_*.md.
"""

from __future__ import annotations

from collections.abc import Callable

import wrapt

from reinforcepp_verl.algorithm.batch import RewardBatch
from reinforcepp_verl.algorithm.losses import ClipRange, LossBatch, LossTerms
from reinforcepp_verl.algorithm.moments import Memory
from reinforcepp_verl.algorithm.normalize import Estimate
from reinforcepp_verl.algorithm.options import NoOptions, ReinforceppOptions
from reinforcepp_verl.algorithm.registry import (
    ESTIMATORS,
    LOSSES,
    SHAPING_OPTIONS,
    STATISTICS_OPTIONS,
    Traits,
    add_estimator,
    add_policy_loss,
)
from reinforcepp_verl.common.hardware import cpu_platform_wanted
from reinforcepp_verl.config import search_path
from reinforcepp_verl.integration import estimator_adapter, loss_adapter, verl_patches

DEFAULT_TRAITS = Traits()

__all__ = [
    "SHAPING_OPTIONS",
    "STATISTICS_OPTIONS",
    "ClipRange",
    "Estimate",
    "LossBatch",
    "LossTerms",
    "Memory",
    "ReinforceppOptions",
    "RewardBatch",
    "Traits",
    "register_estimator",
    "register_policy_loss",
]


def register_estimator(name: str, function: Callable[..., Estimate], *, traits: Traits = DEFAULT_TRAITS) -> None:
    """Register an estimator as `algorithm.adv_estimator=name`; trainers and checks treat it like ours.

    Raises:
        ValueError: the name is taken
    """
    add_estimator(name, function, traits)
    estimator_adapter.offer_to_verl(name)


def register_policy_loss(
    name: str,
    function: Callable[..., LossTerms],
    *,
    options: type = NoOptions,
    whole_answers: bool = False,
) -> None:
    """Register a policy loss as `actor_rollout_ref.actor.policy_loss.loss_mode=name`.

    `options` is a dataclass that defines the keys of `actor_rollout_ref.actor.policy_loss.options`. `whole_answers`
    says that the loss takes the answer as one action; settings that weight or drop single tokens are then refused.

    Raises:
        ValueError: the name is taken, or `options` is not a dataclass
    """
    add_policy_loss(name, function, options, whole_answers=whole_answers)
    loss_adapter.offer_to_verl(name)


for _name in ESTIMATORS:
    estimator_adapter.offer_to_verl(_name)
for _name in LOSSES:
    loss_adapter.offer_to_verl(_name)

search_path.register()
verl_patches.install()


def _register_trainers(_module: object) -> None:
    from reinforcepp_verl.integration import trainers  # noqa: F401  (importing registers them)


def _register_reward_manager(_module: object) -> None:
    from reinforcepp_verl.integration import reward_manager  # noqa: F401  (importing registers it)


# Deferred, because importing verl's trainers and reward managers takes seconds and few processes need them.
wrapt.register_post_import_hook(_register_trainers, "verl.trainer.ppo.v1")
wrapt.register_post_import_hook(_register_reward_manager, "verl.experimental.reward_loop.reward_manager")

# Last: it imports verl, which imports your modules, and these import from here.
if cpu_platform_wanted():
    from reinforcepp_verl.integration.cpu import cpu_patches, environment, vllm_alias

    environment.set_defaults()
    vllm_alias.install()
    from reinforcepp_verl.integration.cpu import platform  # noqa: F401  (importing registers the platform)

    cpu_patches.install()
