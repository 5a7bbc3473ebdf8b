"""What the checks find: errors, which refuse a configuration, and warnings, which are shown and kept with the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.common.terminal import SafeConsole, say
from reinforcepp_verl.config import keys


@dataclass(frozen=True)
class PreflightWarning:
    """A matter of taste, an estimate or an unusual ablation; the run can start and is valid."""

    name: str
    """The name that `preflight.allow` silences it by, one of `WARNINGS`."""
    message: str

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


Found = Sequence[str | PreflightWarning]
Check = Callable[[DictConfig], Found]


@dataclass(frozen=True)
class Findings:
    """Errors would fail or train on wrong data. Each is one line with the dotted key, its value and the fix."""

    errors: list[str] = field(default_factory=list)
    warnings: list[PreflightWarning] = field(default_factory=list)


def silenced(config: DictConfig, warnings: Sequence[PreflightWarning]) -> list[PreflightWarning]:
    """Return the warnings that `preflight.allow` does not name."""
    allowed = OmegaConf.select(config, keys.PREFLIGHT_ALLOW) or ()
    return [warning for warning in warnings if warning.name not in allowed]


def show_warnings(warnings: Sequence[PreflightWarning]) -> None:
    """Print warnings, each with its name, and how to silence them."""
    console = SafeConsole(stderr=True)
    for warning in warnings:
        say(console, f"warning: {warning}", style="yellow")
    if warnings:
        names = ",".join(dict.fromkeys(warning.name for warning in warnings))
        say(console, f"to silence: '{keys.PREFLIGHT_ALLOW}=[{names}]'", style="yellow")
