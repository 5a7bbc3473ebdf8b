"""Compares the step time of the CPU job with stock verl: its estimator, loss, trainer, buffer, agent loops and engine.

    reinforcepp prepare arithmetic
    python benchmarks/step_time.py
    python benchmarks/step_time.py --recipe math_rlvr/smollm2_cpu --steps 6 --warm-up 2 --rounds 1 \\
        --stock actor_rollout_ref.actor.ppo_max_token_len_per_gpu=1024

Prints the median seconds per training step of each, over all rounds, and their ratio, then the processes that needed
most memory. Validation is off; the first steps of each run are skipped because they compile and fill caches.
"""

from __future__ import annotations

from typing import Annotated, Optional

import typer
from helpers.timed_runs import Variant, compare

STOCK = [
    "trainer.v1.trainer_mode=sync",
    "algorithm.adv_estimator=reinforce_plus_plus",
    "actor_rollout_ref.actor.policy_loss.loss_mode=vanilla",
    "actor_rollout_ref.actor.clip_ratio_c=3.0",
    "trainer.v1.sampler.custom_sampler.path=null",
    "trainer.v1.sampler.custom_sampler.name=null",
    "actor_rollout_ref.rollout.agent.agent_loop_manager_class=null",
]
# On the CPU, verl's engine, where ours computes each prompt once, and each answer to the TransferQueue alone.
STOCK_ENVIRONMENT = {"VERL_ENGINE_DEVICE": "cuda", "REINFORCEPP_GATHER_PUTS": "0"}


def main(
    recipe: Annotated[str, typer.Option(help="What is trained.")] = "math_rlvr/arithmetic",
    steps: Annotated[int, typer.Option(help="Steps per run.")] = 20,
    warm_up: Annotated[int, typer.Option(help="Steps skipped at the start of each run.")] = 3,
    rounds: Annotated[int, typer.Option(help="How often both are run, in turn.")] = 2,
    stock: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="KEY=VALUE", help="Another setting of the stock run, if one suits it better."),
    ] = None,
) -> None:
    """Time the CPU job with stock verl and with this package, in turn."""
    variants = {"stock": Variant([*STOCK, *(stock or [])], STOCK_ENVIRONMENT), "ours": Variant([])}
    compare(recipe, variants, steps=steps, warm_up=warm_up, rounds=rounds)


if __name__ == "__main__":
    typer.run(main)
