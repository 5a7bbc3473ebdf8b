"""Tokenizers that transformers 5 rebuilds from the vocabulary alone, so that they no longer split text as saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from reinforcepp_verl.common.wording import first_line
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.sizing.model_size import model_folder

TOKENIZER, SETTINGS, CONFIG_JSON = "tokenizer.json", "tokenizer_config.json", "config.json"
LOADED_AS_SAVED = ("PreTrainedTokenizerFast", "TokenizersBackend")
# transformers' MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS: for these models it ignores the saved class.
REBUILT_BY_MODEL_TYPE = (
    *("arctic", "chameleon", "chatlm", "cohere_asr", "deepseek_ocr", "deepseek_ocr2", "deepseek_v2", "deepseek_v3"),
    *("deepseek_v4", "deepseek_vl", "deepseek_vl_hybrid", "deepseek_vl_v2", "fuyu", "h2ovl_chat", "hyperclovax_vlm"),
    *("internlm2", "jamba", "janus", "llava", "llava_next", "minicpmv", "minimax_m2", "modernbert", "molmo"),
    *("molmo2", "nemotron", "nvfp4", "opencua", "openvla", "phi3", "phi3_v", "phimoe", "qwen2", "step3_vl", "step3p5"),
    "vipllava",
)
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SAMPLES = ("What is 12 + 345?", "3x^2 - 4.5 = y\n\nSo \\boxed{7}", "It's  naïve: 你好, Größe!\tone two")


def check(config: DictConfig) -> list[str]:
    """Compare the tokenizer as saved with the one that the run will load, unless it is certain to be the same."""
    key = keys.TOKENIZER_PATH if value(config, keys.TOKENIZER_PATH) else keys.MODEL_PATH
    folder = model_folder(value(config, key))
    if folder is None or not (folder / TOKENIZER).is_file():
        return []
    try:
        if loads_as_saved(folder):
            return []
        changed = _changed(folder)
    except Exception as error:  # tokenizers raises Exception itself
        return [f"{key}: the tokenizer in {folder} cannot be loaded ({first_line(error)}); save it again"]
    return [f"{key}: {changed}"] if changed else []


def loads_as_saved(folder: Path) -> bool:
    """Return True if neither class nor model type makes transformers rebuild the tokenizer; without its import."""
    settings, model = _read(folder / SETTINGS), _read(folder / CONFIG_JSON)
    if "auto_map" in settings:
        return True  # custom code, which is not run here
    name, kind = settings.get("tokenizer_class"), model.get("model_type")
    if name in LOADED_AS_SAVED and kind not in REBUILT_BY_MODEL_TYPE:
        return True
    return kind in ("qwen2", "qwen3") and str(name).removesuffix("Fast") == "Qwen2Tokenizer" and _is_qwen2(folder)


def _read(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} does not contain a JSON object")
    return content


def _is_qwen2(folder: Path) -> bool:
    """Return True for Qwen's own tokenizer, which transformers rebuilds as it was."""
    saved = _read(folder / TOKENIZER)
    splits = (saved.get("pre_tokenizer") or {}).get("pretokenizers") or [{}]
    decoder, normalizer = saved.get("decoder") or {}, saved.get("normalizer") or {}
    types = (normalizer.get("type"), decoder.get("type"), len(splits), splits[-1].get("type"))
    return types == ("NFC", "ByteLevel", 2, "ByteLevel") and splits[0].get("pattern") == {"Regex": QWEN2_SPLIT}


def _changed(folder: Path) -> str | None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    saved = Tokenizer.from_file(str(folder / TOKENIZER))
    loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for text in SAMPLES:
        before, after = saved.encode(text, add_special_tokens=False).ids, loaded.encode(text, add_special_tokens=False)
        if before != after:
            return (
                f"transformers does not load the tokenizer in {folder} as saved: it rebuilds a "
                f"{type(loaded).__name__}, which makes {len(after)} tokens of {text!r} instead of {len(before)}; "
                f"{_fix(_read(folder / CONFIG_JSON).get('model_type'), type(loaded).__name__)}"
            )
    return None


def _fix(model_type: object, name: str) -> str:
    if model_type in REBUILT_BY_MODEL_TYPE:
        return f"use a model whose model_type is not {model_type}, or a tokenizer with the rules of {name}"
    return f"set tokenizer_class to PreTrainedTokenizerFast in its {SETTINGS}"
