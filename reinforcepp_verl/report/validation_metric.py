"""Selects the main validation metric among those that verl records."""

from __future__ import annotations

from collections.abc import Iterable

VALIDATION = "val-core/"
"""How verl's names of the main validation metrics begin."""
MEAN_OF_SOURCES = "mean_of_sources"


def is_validation_metric(name: str) -> bool:
    """Return True for verl's names of a mean over the validation answers."""
    return name.startswith(VALIDATION) and "/mean@" in name


def validation_key(names: Iterable[str]) -> str | None:
    """Return the main validation metric (val-core/<data source>/.../mean@k) among `names`.

    Accuracy is preferred to rewards, and the mean over several data sources to a single one.
    """
    found = [name for name in names if name.startswith(VALIDATION) and "/mean@" in name]
    return min(found, key=lambda name: ("/acc/mean@" not in name, MEAN_OF_SOURCES not in name, name), default=None)


def mean_key(names: Iterable[str], number: str) -> str | None:
    """Return the mean over the validation answers of a number that the reward function returns, such as `quality`.

    Raises:
        ValueError: there are several data sources, each with a mean of its own
    """
    found = [name for name in names if name.startswith("val-") and f"/{number}/mean@" in name]
    if len(found) > 1:
        raise ValueError(f"{number} has a mean for each data source ({', '.join(found)}); validate on one")
    return found[0] if found else None


def accuracy_by_source(names: Iterable[str]) -> dict[str, str]:
    """Return the accuracies of each data source, by its name; none if there is only one source."""
    keys = [name for name in names if name.startswith(VALIDATION) and "/acc/mean@" in name]
    found = {key.removeprefix(VALIDATION).partition("/acc/")[0]: key for key in keys if MEAN_OF_SOURCES not in key}
    return found if len(found) > 1 else {}
