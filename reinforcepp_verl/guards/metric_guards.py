"""Guards on the metrics of a step: skipped updates, steps without a signal, and values beyond a limit."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.guard_options import GuardOptions
from reinforcepp_verl.guards import GuardError

# A child of verl's logger, which has its own handler in the trainer: vLLM silences the root logger up to ERROR.
logger = logging.getLogger(f"verl.{__name__}")

# verl takes the mean over a step's updates, so a single one makes it NaN or infinite.
GRAD_NORM = "actor/grad_norm"
FINITE_METRICS = (GRAD_NORM, "actor/loss", "critic/grad_norm", "critic/loss")
SCORES, ADVANTAGES = "critic/score", "critic/advantages"


@dataclass(frozen=True)
class Limit:
    """An option of `guards` and the metric that it limits; NaN is beyond every limit."""

    option: str
    metric: str
    remedy: str
    is_lower_bound: bool = False
    always_reported: bool = True

    def is_exceeded(self, limit: float, value: float) -> bool:
        """Return True if `value` is beyond `limit`."""
        return not (value >= limit if self.is_lower_bound else value <= limit)

    def describe(self, limit: float, value: float) -> str:
        """Describe a `value` beyond `limit`."""
        side = "below" if self.is_lower_bound else "above"
        return f"{self.metric} is {value:.4g}, {side} {keys.GUARDS}.{self.option}={limit:g}"


LIMITS = (
    Limit("max_kl", "reinforcepp/kl", f"raise {keys.KL_COEF} or {keys.KL_LOSS_COEF}, or lower {keys.ACTOR_LR}"),
    Limit("max_update_kl", "actor/ppo_kl", f"lower {keys.ACTOR_LR}, or make fewer updates per step"),
    Limit(
        "min_entropy",
        "actor/entropy",
        f"entropy collapse: raise {keys.CLIP_RATIO_HIGH} or {keys.ENTROPY_COEFF}",
        is_lower_bound=True,
    ),
    Limit("max_entropy", "actor/entropy", f"entropy is growing: lower {keys.ACTOR_LR} or {keys.ENTROPY_COEFF}"),
    Limit(
        "max_logprob_gap",
        "training/rollout_probs_diff_mean",
        "rollout and trainer do not compute the same model: compare their data types, sampling and weights",
        always_reported=False,
    ),
)


class MetricGuards:
    """Checks the metrics of each step; the trainer calls it in two places.

    `after_update`, right after the updates of a step, raises before anything of the step is saved. `after_step` is
    called once all metrics are known; the step is logged first, and then `raise_if_tripped` raises. The problems that
    `after_step` finds do not affect the weights, so a checkpoint of that step is valid.
    """

    def __init__(self, options: GuardOptions) -> None:
        self.options = options
        self._limits = {limit: value for limit in LIMITS if (value := getattr(options, limit.option)) is not None}
        self._steps_beyond = dict.fromkeys(self._limits, 0)
        self._skipped_updates = 0
        self._steps_without_signal = self._counted_with_this_step = 0

    def after_update(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Check the updates and the policy, and return additional metrics.

        `guards/skipped_updates` is 1 for a step in which verl skipped an update or the loss was not finite, else 0.

        Raises:
            GuardError: too many such steps in a row, or too many beyond a limit
        """
        bad = [
            f"{name} is {metrics[name]}"
            for name in FINITE_METRICS
            if name in metrics and not math.isfinite(metrics[name])
        ]
        self._skipped_updates = self._skipped_updates + 1 if bad else 0
        if bad:
            self._warn_or_raise(
                self._skipped_updates,
                self.options.max_skipped_updates,
                f"{bad[0]} ({keys.GUARDS}.max_skipped_updates={self.options.max_skipped_updates})",
                "verl skipped an update; look at the rewards and log-probabilities, or lower the learning rate",
            )
        for limit in self._limits:
            self._check_limit(limit, metrics)
        return {"guards/skipped_updates": float(bool(bad))}

    def after_step(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Look for a signal in the whole step, and return as a metric the number of consecutive steps without one.

        A second call for the same step returns the same.
        """
        no_signal = _constant(metrics, SCORES) or (_constant(metrics, ADVANTAGES) and metrics[f"{ADVANTAGES}/max"] == 0)
        self._counted_with_this_step = self._steps_without_signal + 1 if no_signal else 0
        return {"guards/steps_without_signal": float(self._counted_with_this_step)}

    def raise_if_tripped(self) -> None:
        """End the run if the step just logged reached the limit.

        Raises:
            GuardError: there was no signal for `no_signal_steps` steps
        """
        self._steps_without_signal = self._counted_with_this_step
        if self._steps_without_signal:
            self._warn_or_raise(
                self._steps_without_signal,
                self.options.no_signal_steps,
                f"all scores are equal, or all advantages are 0 ({keys.GUARDS}.no_signal_steps="
                f"{self.options.no_signal_steps})",
                "the task is solved, too hard, or the reward function is wrong: look at the answers, change data or "
                f"{keys.ROLLOUT_N}, or filter such groups ({keys.FILTER_GROUPS})",
            )

    def _check_limit(self, limit: Limit, metrics: Mapping[str, float]) -> None:
        allowed = self._limits[limit]
        if limit.metric not in metrics:
            # Without an update, for example while the critic warms up, there are fewer metrics.
            if limit.always_reported and GRAD_NORM in metrics:
                raise GuardError(
                    f"{keys.GUARDS}.{limit.option} is {allowed:g}, but the step reports no {limit.metric}; "
                    f"set {keys.GUARDS}.{limit.option}=null"
                )
            return
        value = metrics[limit.metric]
        self._steps_beyond[limit] = self._steps_beyond[limit] + 1 if limit.is_exceeded(allowed, value) else 0
        if self._steps_beyond[limit]:
            self._warn_or_raise(
                self._steps_beyond[limit],
                self.options.patience,
                f"{limit.describe(allowed, value)} ({keys.GUARDS}.patience={self.options.patience})",
                limit.remedy,
            )

    @staticmethod
    def _warn_or_raise(steps: int, allowed: int | None, finding: str, remedy: str) -> None:
        if allowed is not None and steps >= allowed:
            raise GuardError(f"for {steps} steps in a row {finding}; {remedy}")
        if steps == 1:
            logger.warning("%s; %s", finding, remedy)


def _constant(metrics: Mapping[str, float], name: str) -> bool:
    """Return True if the largest and the smallest of a step's values are equal."""
    return f"{name}/max" in metrics and metrics[f"{name}/max"] == metrics[f"{name}/min"]
