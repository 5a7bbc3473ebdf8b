"""Passwords and access tokens in the configuration, which verl prints and trackers upload."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.config.schema import as_tree, text_values

_NAME = re.compile(
    r"(^|[._-])(api_?key|access_?key|private_?key|wandb_?key|secret|secret_?key|password|passwd|passphrase|authorization"
    r"|token)$",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"(eos|bos|pad|unk|mask|sep|cls|image|video|audio|stop|end|special)_?token$", re.IGNORECASE)
_VARIABLE = re.compile(r"_(key|pat|pwd|pass|password|credentials)$", re.IGNORECASE)
_VALUE = re.compile(
    r"hf_[A-Za-z0-9]{30,}|sk-(?=[\w-]*[A-Z])(?=[\w-]*\d)[\w-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[A-Z0-9]{16}"
    r"|eyJ[\w-]{20,}\.[\w-]+\.[\w-]+|glpat-[\w-]{20,}|xox[abp]-[\w-]{20,}|AIza[\w-]{30,}|://[^/\s:@]+:[^/\s:@]+@"
)
_TO_A_KEY = re.compile(r"\$\{(oc\.select:)?[\w.]+(, ?[^${}]*)?\}")
SHORTEST = 8
"""Shorter values are placeholders, such as "EMPTY" for the key of a local server."""


def check(config: DictConfig) -> list[str]:
    """Refuse a secret, even if read from the environment: the run's config.yaml would contain it in plain text.

    The message never contains it.
    """
    return [
        f"{key} is a secret, which verl would write to the log and trackers would upload; remove it and export it as "
        "an environment variable, which the run's processes inherit"
        for key, text in text_values(as_tree(config))
        if _is_secret(key, OmegaConf.select(config, key) if _is_to_be_resolved(key, text) else text)
    ]


def is_secret_name(name: str) -> bool:
    """Return True if a configuration key is named like a password or a token."""
    return bool(_NAME.search(name) and not _NO_SECRET.search(name))


def is_secret_variable(name: str, value: str) -> bool:
    """Return True if an environment variable is named like a secret or looks like one; errs on the safe side."""
    return is_secret_name(name) or bool(_VARIABLE.search(name) or _VALUE.search(value))


def _is_to_be_resolved(key: str, text: str) -> bool:
    """Return True for a reference, but not for one to another key, whose value is looked at anyway."""
    return "${" in text and (not _TO_A_KEY.fullmatch(text) or is_secret_name(_name(key)))


def _name(key: str) -> str:
    return key.partition("[")[0].rpartition(".")[2]


def _is_secret(key: str, found: Any) -> bool:
    if not isinstance(found, str) or len(found.strip()) < SHORTEST:
        return False
    named = is_secret_name(_name(key)) and not found.startswith(("/", "~", "./"))
    return named or bool(_VALUE.search(found))
