"""The config node `guards`: conditions that end a run although nothing raised."""

from __future__ import annotations

from dataclasses import dataclass

from reinforcepp_verl.config import keys

COUNT_OPTIONS = ("max_skipped_updates", "no_signal_steps", "patience")


@dataclass
class GuardOptions:
    """The node `guards`. null, where allowed, disables a guard."""

    max_skipped_updates: int = 3
    """Consecutive steps with an update that verl skipped because its gradient was NaN or infinite, after which the run
    stops. In fp16 some are skipped at the start, until the scale of the loss settles."""
    no_signal_steps: int | None = 20
    """Consecutive steps in which all scores are equal or all advantages are 0, after which the run stops."""
    max_kl: float | None = None
    """Limit for `reinforcepp/kl`, the mean of log pi - log pi_ref over tokens. Needs a reference model."""
    max_update_kl: float | None = None
    """Limit for `actor/ppo_kl`, how far the updates of one step move the policy."""
    min_entropy: float | None = None
    """Lower limit for `actor/entropy`."""
    max_entropy: float | None = None
    """Upper limit for `actor/entropy`."""
    max_logprob_gap: float | None = 0.05
    """Limit for `training/rollout_probs_diff_mean`, the mean difference between the token probabilities of rollout and
    trainer: verl calls 0.005 healthy and 0.01 a problem. Not reported without rollout log-probabilities."""
    patience: int = 5
    """Consecutive steps beyond one of the limits above after which the run stops; the first one logs a warning."""
    hang_deadline_s: float = 600.0
    """Seconds without an answer from a process of the run, except FSDP workers, after which the run stops."""
    step_deadline_s: float | None = 7200.0
    """Seconds in one phase of a step, except rollouts, after which the run stops, because an FSDP worker probably
    hangs. Rollouts have `trainer.v1.sampler.sampler_kwargs.stall_deadline_s`."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (value >= 1 if name in COUNT_OPTIONS else value > 0):
                raise ValueError(
                    f"{keys.GUARDS}.{name} is {value}: it must be {'1 or more' if name in COUNT_OPTIONS else 'above 0'}"
                )
        if self.min_entropy is not None and self.max_entropy is not None and self.min_entropy >= self.max_entropy:
            raise ValueError(
                f"{keys.GUARDS}.min_entropy is {self.min_entropy}: it must be below {keys.GUARDS}.max_entropy, which "
                f"is {self.max_entropy}"
            )
