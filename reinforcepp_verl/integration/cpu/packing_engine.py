"""verl's FSDP engine for language models on a CPU: computes each prompt once, and logits for answers only.

verl computes every answer together with its prompt and a logit of the whole vocabulary for each of these tokens, also
those of the prompt, which no loss uses. With a short answer and several to a prompt that is most of an update. verl's
own switch for it, `use_prefix_grouper`, has no effect in verl 0.9.1's training engines.

`VERL_ENGINE_DEVICE=cuda` in the environment chooses verl's engine as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict

from reinforcepp_verl.integration.cpu import prompt_packing

MODULE = "verl.workers.engine.fsdp.transformer_impl"
DEVICE = "cpu"
BACKENDS = ["fsdp", "fsdp2"]
# Decoders whose layers mix tokens by attention alone, and that know `logits_to_keep`.
PLAIN_DECODERS = frozenset({"llama", "mistral", "qwen2", "qwen3"})
PLAIN_INPUTS = {"input_ids", "attention_mask", "position_ids"}
# With one of these, verl computes more than log-probabilities and entropy, or from another representation.
VERLS_OWN = {
    "use_remove_padding": True,
    "use_fused_kernels": False,
    "calculate_sum_pi_squared": False,
    "distillation_use_topk": False,
}
"""With verl's defaults."""


def register(module: Any) -> None:
    """Register the engines for the device `cpu`: verl's critic, and this one for language models."""
    from verl.workers.engine.base import EngineRegistry

    if DEVICE not in EngineRegistry._engines["language_model"][BACKENDS[0]]:
        EngineRegistry.register("value_model", BACKENDS, DEVICE)(module.FSDPEngineWithValueHead)
        EngineRegistry.register("language_model", BACKENDS, DEVICE)(_engine(module))


def attends_plainly(model: Any) -> bool:
    """Whether a model of this transformers configuration can compute packed rows."""
    layers = getattr(model, "layer_types", None) or []
    window = getattr(model, "sliding_window", None) if not layers else None
    return (
        model.model_type in PLAIN_DECODERS
        and model._attn_implementation == "sdpa"
        and window is None
        and set(layers) <= {"full_attention"}
    )


def _engine(module: Any) -> type:
    from verl.utils import tensordict_utils as tu

    class PackingEngine(module.FSDPEngineWithLMHead):  # type: ignore[misc]
        """Packs micro-batches of text for plain decoders; all others are verl's."""

        def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
            inputs, output_args = super().prepare_model_inputs(micro_batch)
            packing = self._packing(micro_batch) if set(inputs) == PLAIN_INPUTS else None
            if packing is None:
                return inputs, output_args
            positions = micro_batch["position_ids"].values()
            packed = {
                "input_ids": micro_batch["input_ids"].values()[packing.source],
                "position_ids": positions[packing.source],
                "attention_mask": packing.attention_mask(),
                "logits_to_keep": packing.columns,
            }
            return packed, output_args | {"packing": packing}

        def prepare_model_outputs(
            self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
        ) -> dict[str, torch.Tensor]:
            packing = output_args.get("packing")
            if packing is None:
                return super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
            logits = output.logits.flatten(0, 1)[packing.predictor]
            logits = module._scale_logits_by_temperature(
                logits,
                output_args["temperature"][packing.row, None],
                is_unit_temperature=output_args["temperature_is_one"],
            )
            ids = micro_batch["input_ids"]
            found = {"log_probs": module.logprobs_from_logits(logits=logits, labels=ids.values()[packing.target])}
            if tu.get_non_tensor_data(data=micro_batch, key="calculate_entropy", default=False):
                found["entropy"] = module.verl_F.entropy_from_logits(logits)
            # A prediction stands at the token before the one it is for; prompts have none.
            return {
                name: torch.nested.nested_tensor_from_jagged(
                    values.new_zeros(len(ids.values())).index_put((packing.target - 1,), values), ids.offsets()
                )
                for name, values in found.items()
            }

        def _packing(self, micro_batch: TensorDict) -> prompt_packing.Packing | None:
            chosen = [
                tu.get_non_tensor_data(data=micro_batch, key=key, default=default) for key, default in VERLS_OWN.items()
            ]
            # Without prompts it is verl's SFT trainer, with dense ones its old PPO trainer.
            ids, prompts = micro_batch["input_ids"], micro_batch.get("prompts")
            if prompts is None or not prompts.is_nested or any(chosen) or self.engine_config.entropy_checkpointing:
                return None
            if not attends_plainly(self.model_config.hf_config):
                return None
            return prompt_packing.pack(ids.values(), *(x.offsets().diff().tolist() for x in (ids, prompts)))

    return PackingEngine
