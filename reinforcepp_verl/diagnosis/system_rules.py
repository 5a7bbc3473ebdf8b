"""Rules about the machinery: engine against trainer, staleness, memory."""

from __future__ import annotations

import numpy as np

from reinforcepp_verl.config import keys
from reinforcepp_verl.diagnosis.measured import Measured
from reinforcepp_verl.diagnosis.rule import Evidence, Rule

GAP = "training/rollout_probs_diff_mean"
STALENESS = "training/off_policy/trajectory_staleness/mean"
MEMORY = "actor/perf/cpu_memory_used_gb"

LARGE_GAP = 0.01
STALE_UPDATES = 4.0
LEAK_STEPS, LEAK_GROWTH, LEAK_CORRELATION = 50, 1.1, 0.9


def _engine_gap(run: Measured) -> Evidence | None:
    gap = run.last(GAP)
    if gap is None or gap.mean <= LARGE_GAP:
        return None
    return Evidence(f"{GAP} {gap.mean:.2g}", int(gap.steps[0]), int(gap.steps[-1]))


def _staleness(run: Measured) -> Evidence | None:
    stale = run.last(STALENESS)
    if stale is None or stale.mean <= STALE_UPDATES:
        return None
    return Evidence(f"{STALENESS} {stale.mean:.2g} versions of the weights", int(stale.steps[0]), int(stale.steps[-1]))


def _memory_growth(run: Measured) -> Evidence | None:
    used = run[MEMORY]
    if len(used.steps) < LEAK_STEPS:
        return None
    change = run.change(MEMORY, since=0.5)
    correlation = _rank_correlation_with_time(used.values[len(used.values) // 2 :])
    if change is None or correlation < LEAK_CORRELATION or change.after.mean < LEAK_GROWTH * change.before.mean:
        return None
    per_step = change.difference / (change.after.steps.mean() - change.before.steps.mean())
    return Evidence.of(change, also=f"{1000 * per_step:.3g} GB in 1,000 steps")


def _rank_correlation_with_time(values: np.ndarray) -> float:
    distinct, ranks = np.unique(values, return_inverse=True)
    return float(np.corrcoef(np.arange(len(values)), ranks)[0, 1]) if len(distinct) > 1 else 0.0


RULES = (
    Rule(
        "engine_gap",
        f"{GAP} above {LARGE_GAP:g} at the end",
        "verl's FAQ: below 0.005 is healthy, above 0.01 a problem",
        "engine and trainer do not give the same probabilities to the same tokens: data types, kernels, weights that "
        "did not arrive, or top_p/top_k",
        f"correct for it: {keys.ROLLOUT_IS}=token, or mask with {keys.ROLLOUT_GATE_DIVERGENCE}; compare data types and "
        "sampling of the engine",
        5,
        (GAP,),
        _engine_gap,
    ),
    Rule(
        "staleness",
        f"{STALENESS} above {STALE_UPDATES:g} versions of the weights at the end",
        "2505.24298 (AReaL), which bounds it by 4 to 8",
        "answers are older than the policy that learns from them",
        f"lower {keys.PARAMETER_SYNC_STEP}, give the rollout more of the machine, or {keys.ROLLOUT_IS}=token",
        5,
        (STALENESS,),
        _staleness,
    ),
    Rule(
        "memory_growth",
        f"{LEAK_STEPS} steps or more, {MEMORY} rises steadily in the second half (rank correlation above "
        f"{LEAK_CORRELATION:g}) and by more than {LEAK_GROWTH - 1:.0%}",
        "our choice; the metric is the used memory of the machine, which goes up and down by some GB",
        "something keeps what belongs to earlier steps (a reward function, a tool, a library), or another process of "
        "the machine grows",
        "look at what your own code keeps; until it is found, stop and resume before the memory is full "
        "(`touch RUN/STOP`, `reinforcepp resume RUN`)",
        LEAK_STEPS,
        (MEMORY,),
        _memory_growth,
    ),
)
