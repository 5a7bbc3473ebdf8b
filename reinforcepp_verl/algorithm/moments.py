"""Mean and variance of a weighted population given in parts: rows, mini-batches, steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of a population; parts merge exactly (Chan, Golub, LeVeque 1979)."""

    count: float = 0.0
    mean: float = 0.0
    squared_deviations: float = 0.0

    @classmethod
    def from_rows(cls, count: Tensor, mean: Tensor, squared_deviations: Tensor, weight: Tensor) -> Moments:
        """Pool rows, each given by its count, mean and squared deviations, all (B,), with a weight per member."""
        members = (weight * count).double()
        total = members.sum()
        if total == 0:
            return cls()
        center = (members * mean).sum() / total
        spread = (weight * squared_deviations).sum() + (members * (mean - center).square()).sum()
        return cls(total.item(), center.item(), spread.item())

    @classmethod
    def from_values(cls, values: Tensor, weight: Tensor) -> Moments:
        """Pool single values (B,) with weights (B,)."""
        return cls.from_rows(weight.new_ones(()), values.double(), values.new_zeros(()).double(), weight.double())

    def merge(self, other: Moments) -> Moments:
        """Pool two populations."""
        count = self.count + other.count
        if count == 0:
            return self
        gap = other.mean - self.mean
        mean = self.mean + gap * other.count / count
        between = gap**2 * self.count * other.count / count
        return Moments(count, mean, self.squared_deviations + other.squared_deviations + between)

    def variance(self, *, unbiased: bool) -> float:
        """Return the variance, without Bessel's correction for a population of one member; 0 for an empty one."""
        # Weights that sum to 1 may come out as 1 + 1e-16.
        denominator = self.count - 1 if unbiased and self.count > 1.5 else self.count
        return self.squared_deviations / denominator if denominator > 0 else 0.0


@dataclass
class Memory:
    """State across batches, of `statistics: running`, `reward_norm: running` and `baseline: moving_average`."""

    scores: Moments = Moments()
    returns: Moments = Moments()
    window: list[Moments] = field(default_factory=list)

    def pool(self, moments: Moments, window: int) -> Moments:
        """Add the moments of this call and pool them with those of previous calls, `window` calls in total."""
        self.window = [*self.window, moments][-window:]
        pooled = Moments()
        for part in self.window:
            pooled = pooled.merge(part)
        return pooled

    def as_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Memory:
        """Restore the state returned by `as_dict`."""
        window = [Moments(**part) for part in state["window"]]
        return cls(Moments(**state["scores"]), Moments(**state["returns"]), window)
