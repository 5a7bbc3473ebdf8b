"""The size by arithmetic is the one that transformers counts on the model it builds."""

from __future__ import annotations

from itertools import product

import pytest

from reinforcepp_verl.sizing.decoder_size import FAMILIES, decoder_size
from reinforcepp_verl.sizing.model_size import measure

SMALL = {
    **{"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3},
    **{"intermediate_size": 40, "vocab_size": 50, "max_position_embeddings": 64},
}
HEAD_DIMS = {"llama": (None, 10), "qwen2": (None, 10), "qwen3": (4, 10)}
CASES = [
    (family, head_dim, bias, tied)
    for family, bias, tied in product(FAMILIES, (False, True), (False, True))
    for head_dim in HEAD_DIMS[family]
]


@pytest.mark.parametrize(("family", "head_dim", "bias", "tied"), CASES)
def test_arithmetic_counts_what_transformers_builds(family, head_dim, bias, tied):
    from transformers import AutoConfig

    settings = SMALL | {"model_type": family, "tie_word_embeddings": tied, "attention_bias": bias, "mlp_bias": bias}
    if head_dim is not None:
        settings["head_dim"] = head_dim
    size = decoder_size(settings)
    assert size is not None and size == measure(AutoConfig.for_model(**settings))


def test_a_qwen3_without_a_head_dim_is_left_to_transformers():
    assert decoder_size(SMALL | {"model_type": "qwen3", "tie_word_embeddings": True}) is None
