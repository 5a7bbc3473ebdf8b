"""vLLM general plugin: keep Linear weights loadable on the CPU, so that verl can send new ones after every step.

vLLM packs a Linear's weight into an opaque kernel layout after the first load and drops the parameter; the next
`load_weights` then fails with "'Parameter' object has no attribute 'weight_loader'". The plain path below is the one
that vLLM itself takes for layers marked `skip_weight_relayout`.
"""

from __future__ import annotations

import torch


def keep_weight(self: object, layer: torch.nn.Module) -> None:
    """Replace `UnquantizedLinearMethod.process_weights_after_loading`: compute with the weight as it was loaded."""
    layer.cpu_linear = torch.nn.functional.linear  # type: ignore[assignment]


def register() -> None:
    """Called by vLLM in every one of its processes; does nothing where vLLM does not run on the CPU."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod

    UnquantizedLinearMethod.process_weights_after_loading = keep_weight  # type: ignore[method-assign]
