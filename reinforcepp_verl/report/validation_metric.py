"""Which of the validation metrics that verl records is the headline."""

from __future__ import annotations

from collections.abc import Iterable

MEAN_OF_SOURCES = "mean_of_sources"


def validation_key(names: Iterable[str]) -> str | None:
    """Pick the headline validation metric (val-core/<data source>/.../mean@k) among `names`.

    Accuracy comes before rewards, and the mean over several data sources before a single one.
    """
    found = [name for name in names if name.startswith("val-core/") and "/mean@" in name]
    return min(found, key=lambda name: ("/acc/mean@" not in name, MEAN_OF_SOURCES not in name, name), default=None)
