"""What the options of our reward functions, the node `reward.custom_reward_function.reward_kwargs`, share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from reinforcepp_verl.config import keys

Options = TypeVar("Options", bound="RewardKwargs")


@dataclass
class RewardKwargs:
    """The options of a reward function."""

    def refuse_unless_positive(self, *names: str) -> None:
        """Refuse options that are not above 0."""
        for name in names:
            if not (given := vars(self)[name]) > 0:
                raise ValueError(f"{keys.REWARD_KWARGS}.{name} is {given}: it must be > 0")

    @classmethod
    def from_mapping(cls: type[Options], given: Mapping[str, Any]) -> Options:
        """Read the options from a mapping, refusing unknown names."""
        if not given:
            return cls()
        names = [option.name for option in fields(cls)]
        if unknown := sorted(set(given) - set(names)):
            raise ValueError(f"{keys.REWARD_KWARGS}.{unknown[0]} is not an option. The options are: {', '.join(names)}")
        return cls(**given)
