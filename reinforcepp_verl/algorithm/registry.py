"""The estimators and policy losses by name: ours, and those that other packages register (plugin.py).

Trainers, preflight, guards, reward checks and the command line use this registry, so external ones are treated like
ours. Does not import torch or verl, which takes seconds: our own functions are imported on first use.
"""

from __future__ import annotations

import functools
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from reinforcepp_verl.algorithm.options import NoOptions, ReinforceppOptions

if TYPE_CHECKING:
    from reinforcepp_verl.algorithm.losses import LossTerms
    from reinforcepp_verl.algorithm.normalize import Estimate

VERL_ESTIMATORS = (
    *("gae", "grpo", "grpo_vectorized", "grpo_passk", "rloo", "rloo_vectorized", "opo", "gpg", "remax", "gdpo"),
    *("reinforce_plus_plus", "reinforce_plus_plus_baseline", "optimal_token_baseline", "tir_optimal_token_baseline"),
)
VERL_GROUP_ESTIMATORS = (
    *("grpo", "grpo_vectorized", "grpo_passk", "rloo", "rloo_vectorized", "opo", "gpg"),
    "reinforce_plus_plus_baseline",
)
"""verl's that compare the answers to a prompt, by the sum of an answer's scores; with one answer they take the bare
score, or 0."""
VERL_LOSSES = (
    *("vanilla", "dppo_tv", "dppo_kl", "gspo", "sapo", "gpg", "clip_cov", "kl_cov", "geo_mean", "dro", "cispo"),
    "bypass_mode",
)
"""Names used by verl itself; it would silently overwrite a loss of the same name."""

OPTION_NAMES = frozenset(option.name for option in fields(ReinforceppOptions))
SHARED_OPTIONS = frozenset({"nonfinite"})
"""Options that the trainer reads for every estimator."""
SHAPING_OPTIONS = frozenset({"reward_norm", "reward_scale", "reward_clip"})
"""Options that `batch.prepare` reads."""
STATISTICS_OPTIONS = frozenset({"population", "unbiased_variance", "variance_floor", "statistics", "statistics_window"})
"""Options that `normalize.normalized_advantages` reads."""


@dataclass(frozen=True)
class Traits:
    """The requirements of an estimator on a configuration."""

    uses_gamma: bool = False
    """It uses `algorithm.gamma`; others score whole answers, and a gamma other than 1 is refused."""
    needs_group: bool = False
    """It compares the answers to a prompt, so that `actor_rollout_ref.rollout.n` must be 2 or more."""
    needs_scores: bool = False
    """It treats scores and KL penalties differently; verl's own trainers pass only their difference."""
    whole_answers: bool = False
    """It gives all tokens of an answer the same advantage, whatever the rewards are."""
    needs_greedy_answer: bool = False
    """It compares an answer with the greedy answer to the prompt (`RewardBatch.greedy_score`), which only our trainers
    and `integration.greedy_rollouts` provide."""
    keeps_state: bool = False
    """It keeps state in `memory` whatever the options; verl's own trainers, which have none, are refused."""
    options_read: frozenset[str] = frozenset()
    """The keys of `algorithm.reinforcepp` that it reads in addition to `nonfinite`; others are refused."""

    def __post_init__(self) -> None:
        if unknown := sorted(self.options_read - OPTION_NAMES):
            raise ValueError(f"options_read has {', '.join(unknown)}; known names: {', '.join(sorted(OPTION_NAMES))}")


@dataclass(frozen=True)
class Registered:
    """A named function, given directly or as "package.module:function"."""

    name: str
    source: Callable[..., Any] | str

    def _resolve(self) -> Callable[..., Any]:
        return pkgutil.resolve_name(self.source) if isinstance(self.source, str) else self.source


@dataclass(frozen=True)
class RegisteredEstimator(Registered):
    """An estimator and its requirements on a configuration."""

    traits: Traits

    @property
    def options_read(self) -> frozenset[str]:
        """The keys of `algorithm.reinforcepp` that have an effect."""
        return self.traits.options_read | SHARED_OPTIONS

    @functools.cached_property
    def function(self) -> Callable[..., Estimate]:
        return self._resolve()


@dataclass(frozen=True)
class RegisteredLoss(Registered):
    """A policy loss, the class of its options (`actor_rollout_ref.actor.policy_loss.options`), and what it requires."""

    options: type
    whole_answers: bool = False
    """It takes the answer as one action: one ratio, one advantage and one importance weight per answer."""

    @functools.cached_property
    def function(self) -> Callable[..., LossTerms]:
        return self._resolve()


ESTIMATORS: dict[str, RegisteredEstimator] = {}
LOSSES: dict[str, RegisteredLoss] = {}


def add_estimator(name: str, function: Callable[..., Estimate] | str, traits: Traits) -> None:
    """Register an estimator; see `plugin.register_estimator`, which also registers it with verl."""
    _add(ESTIMATORS, "estimator", RegisteredEstimator(name, function, traits), VERL_ESTIMATORS)


def add_policy_loss(
    name: str, function: Callable[..., LossTerms] | str, options: type, *, whole_answers: bool = False
) -> None:
    """Register a policy loss; see `plugin.register_policy_loss`, which also registers it with verl."""
    if not is_dataclass(options):
        raise ValueError(f"the options of the policy loss {name} are {options!r}: they must be a dataclass")
    _add(LOSSES, "policy loss", RegisteredLoss(name, function, options, whole_answers), VERL_LOSSES)


def _add(registry: dict[str, Any], kind: str, entry: Registered, taken_by_verl: tuple[str, ...]) -> None:
    if entry.name in taken_by_verl:
        raise ValueError(f"{kind} {entry.name!r}: the name is used by verl itself; choose another name")
    present = registry.setdefault(entry.name, entry)
    if present != entry and not _one_is_main(present.source, entry.source):
        raise ValueError(f"{kind} {entry.name!r}: the name is taken by {_described(present.source)}; choose another")


def _one_is_main(*sources: Callable[..., Any] | str) -> bool:
    """Return True for one function of a file that was imported and is also run as a script."""
    modules = {getattr(source, "__module__", None) for source in sources}
    return "__main__" in modules and len({_described(source) for source in sources}) == 1


def _described(source: Callable[..., Any] | str) -> str:
    code = getattr(source, "__code__", None)
    return f"{source.__qualname__} in {code.co_filename}" if code is not None else str(source)  # type: ignore[union-attr]


def traits_of(estimator: str) -> Traits | None:
    """Return the traits of a registered estimator, None for verl's own and unknown ones."""
    return ESTIMATORS[estimator].traits if estimator in ESTIMATORS else None


def unread_options(estimator: str, options: ReinforceppOptions) -> list[str]:
    """Return the options that differ from their default but are not read in this run."""
    reads = ESTIMATORS[estimator].options_read
    if options.reward_norm != "none":
        reads |= {"unbiased_variance", "variance_floor"}
    if options.statistics != "running":
        reads -= {"statistics_window"}
    default = vars(ReinforceppOptions())
    return [name for name, given in vars(options).items() if name not in reads and given != default[name]]


def uses_memory(estimator: str, options: ReinforceppOptions) -> bool:
    """Return True if the estimator keeps state across batches, which only our trainers save and restore."""
    return ESTIMATORS[estimator].traits.keeps_state or options.needs_memory


def options_on_scores(estimator: str, options: ReinforceppOptions) -> list[str]:
    """Return the options at work that need the scores without the KL penalty; a clip does too, but only if it binds."""
    default = vars(ReinforceppOptions())
    names = ("reward_norm", "reward_scale", "zero_signal")
    read = ESTIMATORS[estimator].options_read
    return [name for name in names if name in read and vars(options)[name] != default[name]]


_SCORES = SHAPING_OPTIONS | {"zero_signal"}
_OWN_TRAITS = {
    "reinforcepp": Traits(uses_gamma=True, options_read=_SCORES | STATISTICS_OPTIONS),
    "reinforcepp_baseline": Traits(
        needs_group=True,
        needs_scores=True,
        options_read=_SCORES | STATISTICS_OPTIONS | {"reward_clip_at"},
    ),
    "reinforce": Traits(whole_answers=True, options_read=_SCORES | {"baseline"}),
    "reinforce_reward_to_go": Traits(uses_gamma=True, options_read=_SCORES | {"baseline"}),
    "leave_one_out": Traits(needs_group=True, whole_answers=True, options_read=_SCORES),
    "greedy_baseline": Traits(needs_greedy_answer=True),
    "raft": Traits(needs_group=True, whole_answers=True, options_read=frozenset({"zero_signal"})),
}
for _name, _traits in _OWN_TRAITS.items():
    add_estimator(_name, f"reinforcepp_verl.algorithm.estimators:{_name}", _traits)
add_policy_loss("reinforcepp", "reinforcepp_verl.algorithm.losses:clipped_loss", NoOptions)
add_policy_loss(
    "reinforcepp_answer",
    "reinforcepp_verl.algorithm.losses:clipped_answer_loss",
    NoOptions,
    whole_answers=True,
)
