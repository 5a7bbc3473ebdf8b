"""The buffer through which new weights reach the engine: without an accelerator every tensor must fit into it."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.sizing.memory_estimate import BYTES_PER_ELEMENT
from reinforcepp_verl.sizing.model_size import model_size

MIB = 2**20


def check(config: DictConfig) -> list[str]:
    """Compare it with the largest tensor; skipped if the size of the model is unknown.

    With an accelerator verl sends a tensor that does not fit by itself.
    """
    model = model_size(value(config, keys.MODEL_PATH)) if value(config, keys.DEVICE) == "cpu" else None
    if model is None:
        return []
    key, element = (
        keys.UPDATE_WEIGHTS_BUCKET_MEGABYTES,
        BYTES_PER_ELEMENT[str(value(config, keys.MODEL_DTYPE) or "fp32")],
    )
    largest = model.hidden * max(model.vocab, model.intermediate) * element
    given, needed = value(config, key), -(-largest // MIB)
    if given >= needed:
        return []
    return [
        f"{key} is {given}: the largest tensor of {value(config, keys.MODEL_PATH)} has {needed} MiB, and the update of "
        f"the engine's weights would end the run; set {key}={needed}"
    ]
