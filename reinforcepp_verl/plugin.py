"""Importing this module registers REINFORCE++ with verl; it is the target of the `verl.plugins` entry point.

verl imports it in every process (driver, trainer, FSDP workers, agent loops, reward workers) and calls nothing.
"""

from __future__ import annotations

from reinforcepp_verl import search_path
from reinforcepp_verl.cpu.detect import cpu_platform_wanted

if cpu_platform_wanted():
    # Before verl asks for its platform for the first time, which the import of core_algos below does.
    from reinforcepp_verl.cpu import environment, patches, vllm_alias

    environment.set_defaults()
    vllm_alias.install()
    from reinforcepp_verl.cpu import platform  # noqa: F401  (importing registers the platform)

    patches.install()

from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY, register_adv_est, register_policy_loss  # noqa: E402

from reinforcepp_verl.adapters import (  # noqa: E402
    reinforcepp_advantage,
    reinforcepp_baseline_advantage,
    reinforcepp_policy_loss,
)

POLICY_LOSS = "reinforcepp"

register_adv_est("reinforcepp")(reinforcepp_advantage)
register_adv_est("reinforcepp_baseline")(reinforcepp_baseline_advantage)

# verl overwrites a policy loss of the same name without a word.
if POLICY_LOSS_REGISTRY.get(POLICY_LOSS, reinforcepp_policy_loss) is not reinforcepp_policy_loss:
    raise ValueError(f"another package has registered the policy loss {POLICY_LOSS!r}; uninstall one of the two")
register_policy_loss(POLICY_LOSS)(reinforcepp_policy_loss)  # type: ignore[arg-type]

search_path.register()
