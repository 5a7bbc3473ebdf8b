"""verl's merger for FSDP shards, with a selectable data type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from verl.model_merger.base_model_merger import ModelMergerConfig
from verl.model_merger.fsdp_model_merger import FSDPModelMerger

from reinforcepp_verl.checkpoints.fsdp_checkpoint import Checkpoint

ADAPTER = "lora_adapter"


class CastTo(TorchFunctionMode):
    """Makes `tensor.bfloat16()`, which verl's merger calls on every shard, return `dtype` instead."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Cast in place of `Tensor.bfloat16`; call any other `func`."""
        if func is Tensor.bfloat16:
            return args[0].to(self.dtype)
        return func(*args, **(kwargs or {}))


class Merger(FSDPModelMerger):
    """verl's merger, with an empty model that needs no memory and has `dtype` in its config.json."""

    def __init__(self, config: ModelMergerConfig, dtype: torch.dtype) -> None:
        super().__init__(config)
        self.dtype = dtype

    def patch_model_generation_config(self, model: PreTrainedModel) -> PreTrainedModel:
        """Do what verl does, then drop the model's weights, because the real ones come from the shards."""
        return super().patch_model_generation_config(model).to("meta").to(self.dtype)


def merge(checkpoint: Checkpoint, target: Path, dtype: torch.dtype) -> None:
    """Write the model, its configuration and tokenizer to the folder `target`, with a LoRA adapter merged in.

    Raises:
        ValueError: verl's merger refuses the checkpoint
    """
    if not checkpoint.lora.is_file():
        _merge(checkpoint, target, dtype)
        return
    with TemporaryDirectory(dir=target.parent) as scratch:
        _merge(checkpoint, Path(scratch), torch.float32)
        _fold(Path(scratch), target, dtype)


def _fold(merged: Path, target: Path, dtype: torch.dtype) -> None:
    """Merge the adapter into the base model (verl's merger writes them separately) and save one model."""
    model: Any = AutoModelForCausalLM.from_pretrained(merged)
    folded = PeftModel.from_pretrained(model, merged / ADAPTER, torch_device="cpu").merge_and_unload()
    folded.to(dtype).save_pretrained(target)
    AutoTokenizer.from_pretrained(merged).save_pretrained(target)


def _merge(checkpoint: Checkpoint, target: Path, dtype: torch.dtype) -> None:
    config = ModelMergerConfig(
        operation="merge",
        backend="fsdp",
        local_dir=str(checkpoint.actor),
        hf_model_config_path=str(checkpoint.model_config),
        target_dir=str(target),
    )
    try:
        with CastTo(dtype):
            Merger(config, dtype).merge_and_save()
    except (AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{checkpoint.path}: verl's merger refuses it: {reason}") from error
