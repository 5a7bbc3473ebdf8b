"""Importing this module registers REINFORCE++ with verl; it is the target of the `verl.plugins` entry point.

verl imports it in every process (driver, trainer, FSDP workers, agent loops, reward workers) and calls nothing.
"""

from __future__ import annotations

import wrapt

from reinforcepp_verl.common.hardware import cpu_platform_wanted
from reinforcepp_verl.config import search_path
from reinforcepp_verl.integration import verl_patches

verl_patches.install()

if cpu_platform_wanted():
    # Before verl asks for its platform for the first time, which the import of core_algos below does.
    from reinforcepp_verl.integration.cpu import cpu_patches, environment, vllm_alias

    environment.set_defaults()
    vllm_alias.install()
    from reinforcepp_verl.integration.cpu import platform  # noqa: F401  (importing registers the platform)

    cpu_patches.install()

from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY, register_adv_est, register_policy_loss  # noqa: E402

from reinforcepp_verl.integration.adapters import ESTIMATORS, reinforcepp_policy_loss  # noqa: E402

POLICY_LOSS = "reinforcepp"

for name, estimator in ESTIMATORS.items():
    register_adv_est(name)(estimator)

# verl overwrites a policy loss of the same name without a word.
if POLICY_LOSS_REGISTRY.get(POLICY_LOSS, reinforcepp_policy_loss) is not reinforcepp_policy_loss:
    raise ValueError(f"another package has registered the policy loss {POLICY_LOSS!r}; uninstall one of the two")
register_policy_loss(POLICY_LOSS)(reinforcepp_policy_loss)  # type: ignore[arg-type]

search_path.register()


def _register_trainers(_module: object) -> None:
    from reinforcepp_verl.integration import trainers  # noqa: F401  (importing registers them)


def _register_reward_manager(_module: object) -> None:
    from reinforcepp_verl.integration import reward_manager  # noqa: F401  (importing registers it)


# Few processes import verl's trainers and reward managers; the others are spared the seconds it takes.
wrapt.register_post_import_hook(_register_trainers, "verl.trainer.ppo.v1")
wrapt.register_post_import_hook(_register_reward_manager, "verl.experimental.reward_loop.reward_manager")
