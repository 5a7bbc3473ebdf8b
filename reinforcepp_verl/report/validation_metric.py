"""Selects the main validation metric among those that verl records."""

from __future__ import annotations

from collections.abc import Iterable

MEAN_OF_SOURCES = "mean_of_sources"


def validation_key(names: Iterable[str]) -> str | None:
    """Return the main validation metric (val-core/<data source>/.../mean@k) among `names`.

    Accuracy is preferred to rewards, and the mean over several data sources to a single one.
    """
    found = [name for name in names if name.startswith("val-core/") and "/mean@" in name]
    return min(found, key=lambda name: ("/acc/mean@" not in name, MEAN_OF_SOURCES not in name, name), default=None)
