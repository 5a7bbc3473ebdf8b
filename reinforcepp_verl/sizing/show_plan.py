"""Shows the plan of one step as two tables."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from reinforcepp_verl.common.hardware import GIB
from reinforcepp_verl.common.wording import did_you_mean
from reinforcepp_verl.config import keys, machines
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.sizing import gpu
from reinforcepp_verl.sizing.memory_estimate import MemoryEstimate
from reinforcepp_verl.sizing.model_size import KNOWN_MODELS
from reinforcepp_verl.sizing.step_plan import StepPlan, normalized_over


def show_plan(config: DictConfig, console: Console) -> None:
    """Print the work of one step and the memory per GPU."""
    console.print(_step(config, StepPlan.from_config(config)))
    if value(config, keys.DEVICE) == "cpu":
        return
    estimate = gpu.estimate_for(config)
    if estimate is None:
        console.print(
            f"memory: not estimated, because {_unknown(config)}",
            markup=False,
            soft_wrap=True,
        )
        return
    console.print(_memory(estimate))
    console.print(
        f"KV cache of one engine: {estimate.kv_tokens:,} tokens, {estimate.kv_tokens // estimate.longest_sequence:,} "
        f"sequences of full length at once",
        highlight=False,
    )


def _step(config: DictConfig, plan: StepPlan) -> Table:
    table = Table(title="one step", show_header=False, title_justify="left")
    table.add_row("machine", machines.described(config))
    table.add_row("answers", f"{plan.prompts:,} prompts x {plan.answers_per_prompt} = {plan.answers:,}")
    table.add_row("tokens to generate", f"at most {plan.generated_tokens:,} ({plan.longest_answer:,} per answer)")
    table.add_row("longest sequence", f"{plan.longest_sequence:,} tokens")
    table.add_row("vLLM engines", _engines(config, plan))
    table.add_row("advantages normalized over", f"{normalized_over(config):,} answers")
    table.add_row("optimizer updates", f"{plan.updates} of {plan.answers_per_update:,} answers")
    forwards = ", ".join(f"{name} {count}" for name, count in plan.forwards.items())
    table.add_row("forward passes per answer", f"{sum(plan.forwards.values())} ({forwards})")
    table.add_row("backward passes per answer", str(plan.backwards))
    return table


def _engines(config: DictConfig, plan: StepPlan) -> str:
    if value(config, keys.DEVICE) == "cpu":
        return str(plan.engines)
    each = "each " * (plan.engines > 1)
    return f"{plan.engines}, {each}on {plan.gpus_per_engine} GPU{'s' * (plan.gpus_per_engine > 1)}"


def _unknown(config: DictConfig) -> str:
    if machines.memory_gib(config) is None:
        return f"the size of the GPU is unknown; set cluster= or {keys.GPU_MEMORY_GIB}"
    name = value(config, keys.MODEL_PATH)
    return f"the size of {name}{did_you_mean(name, KNOWN_MODELS)} is unknown; download the model"


def _memory(estimate: MemoryEstimate) -> Table:
    table = Table(title="memory of one GPU, estimated", title_justify="left")
    table.add_column("phase")
    table.add_column("GiB", justify="right")
    table.add_column("of which")
    for phase in estimate.phases:
        parts = ", ".join(f"{name} {part / GIB:.1f}" for name, part in phase.parts.items())
        table.add_row(phase.name, f"{phase.bytes / GIB:.1f}", parts)
    table.add_row("available", f"{estimate.gpu_bytes / GIB:.1f}", "")
    return table
