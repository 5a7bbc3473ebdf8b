"""Verifies that an exported folder has the checkpoint's model: configuration, tokens, weights bit for bit, log-probs.

The reference of every comparison is read from the checkpoint itself: shards, configuration, tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from reinforcepp_verl.export.shards import Shards

PROMPTS = ("12+34=", "What is 12 + 34?", "Name three primes, then stop.")
TOLERANCE = 1e-4
"""Largest allowed log-prob difference between exported model and rounded shards, both computed in float32."""
IGNORED_SETTINGS = ("_name_or_path", "dtype", "transformers_version")
"""Settings that are expected to differ."""
TOKENIZER_FACTS = ("chat_template", "bos_token_id", "eos_token_id", "pad_token_id", "vocab_size")


@dataclass(frozen=True)
class Comparison:
    """Results of the comparison; both differences are the largest over all log-probs, in nats."""

    tensors: int
    tokens: int
    from_export: float
    """Exported model against the shards rounded to its data type: 0 up to the order of additions."""
    from_rounding: float
    """Exported model against the shards as trained: the cost of the data type."""


def check(exported: Path, original: Path, shards: Shards, dtype: torch.dtype) -> Comparison:
    """Compare the folder `exported` with the checkpoint's `shards` and its folder `original`; one model at a time.

    Raises:
        ValueError: the models differ; the message names the first difference
    """
    _same_config(exported, original)
    prompts = _same_tokens(exported, original)
    as_trained, rounded = _reference_log_probs(original, shards, dtype, prompts)
    model = _load(exported)
    _same_weights(model, shards, dtype)
    found = _log_probs(model.float(), prompts)
    difference = (found - rounded).abs().max().item()
    if not difference <= TOLERANCE:
        raise ValueError(
            f"log-probs of the exported model differ by {difference:.2g} (at most {TOLERANCE:g}) from the "
            "checkpoint's, though weights and configuration are the same"
        )
    return Comparison(len(shards.names), len(found), difference, (found - as_trained).abs().max().item())


def empty_model(original: Path) -> PreTrainedModel:
    """Return the model described by the folder `original`, in float32 and without allocating its weights."""
    with init_empty_weights():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(original), dtype=torch.float32
        )
    model.tie_weights()  # accelerate gives every name a separate weight
    return model


def _same_config(exported: Path, original: Path) -> None:
    """Compare all settings: transformers ties embeddings by the weights, but other libraries by the setting."""
    exported_config, original_config = (AutoConfig.from_pretrained(folder).to_dict() for folder in (exported, original))
    for key in sorted(exported_config.keys() | original_config.keys()):
        pair = exported_config.get(key), original_config.get(key)
        if key not in IGNORED_SETTINGS and pair[0] != pair[1]:
            raise ValueError(f"{key} is {pair[0]} in the exported config.json and {pair[1]} in the checkpoint's")


def _same_tokens(exported: Path, original: Path) -> list[Tensor]:
    """Check that both tokenizers agree, and return the token ids of the prompts, each (1, T)."""
    exported_tokenizer, original_tokenizer = (AutoTokenizer.from_pretrained(folder) for folder in (exported, original))
    for fact in TOKENIZER_FACTS:
        found, expected = getattr(exported_tokenizer, fact), getattr(original_tokenizer, fact)
        if found != expected:
            raise ValueError(f"the exported tokenizer has a different {fact} than the checkpoint's: {found!r}")
    prompts = []
    for question in PROMPTS:
        text: Any = question
        if original_tokenizer.chat_template:
            text = original_tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False)
        ids = exported_tokenizer(text, add_special_tokens=False)["input_ids"]
        if ids != original_tokenizer(text, add_special_tokens=False)["input_ids"]:
            raise ValueError(f"the exported tokenizer splits {text!r} into different tokens than the checkpoint's")
        prompts.append(torch.tensor([ids]))
    return prompts


def _reference_log_probs(
    original: Path, shards: Shards, dtype: torch.dtype, prompts: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the log-probs of the shards as trained, and of the shards rounded to `dtype`."""
    model = empty_model(original)
    _same_names(model, shards, "the checkpoint's configuration")
    model.load_state_dict({name: tensor.float() for name, tensor in shards.items()}, assign=True)
    as_trained = _log_probs(model, prompts)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).float()
    return as_trained, _log_probs(model, prompts)


def _load(exported: Path) -> PreTrainedModel:
    """Load with plain transformers, which would initialize missing weights at random, so refuse those."""
    loaded: Any = AutoModelForCausalLM.from_pretrained(exported, output_loading_info=True)
    model, info = loaded
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            raise ValueError(f"the exported folder has {problem.replace('_', ' ')}: {sorted(info[problem])[0]}")
    return cast(PreTrainedModel, model)


def _same_weights(model: PreTrainedModel, shards: Shards, dtype: torch.dtype) -> None:
    _same_names(model, shards, "the exported folder")
    if model.dtype != dtype:
        raise ValueError(f"the exported folder loads as {model.dtype}, not as {dtype}")
    for name, tensor in model.state_dict().items():
        expected = shards[name]
        if expected.is_floating_point():
            expected = expected.to(dtype).to(tensor.dtype)
        if not torch.equal(tensor, expected):
            raise ValueError(f"{name}: the exported weight is not the checkpoint's, or it is NaN")


def _same_names(model: PreTrainedModel, shards: Shards, whose: str) -> None:
    names = model.state_dict().keys()
    for missing in sorted(names - set(shards.names)):
        raise ValueError(f"{missing}: this weight of {whose} is not in the shards")
    for strange in sorted(set(shards.names) - names):
        raise ValueError(f"{strange}: this weight of the shards is not in {whose}")


@torch.inference_mode()
def _log_probs(model: PreTrainedModel, prompts: list[Tensor]) -> Tensor:
    """Return the log-prob of every token except the first of each prompt, concatenated."""
    model.eval()
    found = []
    for ids in prompts:
        log_probs = model(ids).logits[0, :-1].log_softmax(-1)
        found.append(log_probs.gather(-1, ids[0, 1:, None])[:, 0])
    return torch.cat(found)
