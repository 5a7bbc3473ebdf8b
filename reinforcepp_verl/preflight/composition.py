"""Explains in one line why Hydra could not compose a configuration."""

from __future__ import annotations

import re

from hydra.errors import CompactHydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from reinforcepp_verl.algorithm.options import option_types
from reinforcepp_verl.common.wording import did_you_mean, first_line
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.schema import known_keys
from reinforcepp_verl.preflight.unknown_keys import (
    CLUSTER,
    CONFIG_GROUPS,
    as_written,
    group_names,
    needs_plus,
    unknown_key,
)

_TWICE = re.compile(rf"Multiple values for {CLUSTER}\. To override a value use 'override {CLUSTER}: (\S+)'")
_PLUSSES = re.compile(r"force-add of config groups is not supported: '\+\+(\w+)=")
_NO_PLUS = re.compile(r"No match in the defaults list.*To append to your default list use (\S+)")
_UNKNOWN_KEY = re.compile(r"Could not override '([^']+)'\.\s+To append to your config")


def explain(error: CompactHydraException) -> str:
    """Return Hydra's message in one line, with the most similar valid name if a key or a file was not found."""
    if unknown := _UNKNOWN_KEY.match(str(error)):
        key = unknown[1]
        if needs_plus(key):
            return f"{key}: verl's configuration does not define this key; write it with a plus: +{key}=VALUE"
        return unknown_key(key, known_keys())
    if isinstance(error, MissingConfigException):
        return _missing_file(error)
    if isinstance(error, OverrideParseException):
        return f"{error.override}: {first_line(error)}; correct the brackets or quotes of this argument"
    if isinstance(error.__cause__, OmegaConfBaseException):
        key = str(error.__cause__.full_key)
        wanted = option_types().get(key.removeprefix(f"{keys.REINFORCEPP}."))
        return f"{key}: {first_line(error.__cause__)}" + (f"; it must be a {wanted}" if wanted else "")
    message = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if twice := _TWICE.match(message):
        return (
            f"{CLUSTER}={twice[1]}: every configuration has a {CLUSTER} already; write it without a plus or, in the "
            f"defaults list of a YAML file, as `override /{CLUSTER}: {twice[1]}`"
        )
    if added := _NO_PLUS.search(message):
        override = added[1].lstrip("+")
        group = override.partition("=")[0]
        return f"{override}: the configuration has no {group} yet; write it with a plus: {added[1]}"
    if plusses := _PLUSSES.match(message):
        return f"{message}; write {as_written(plusses[1])}=NAME"
    return message


def explain_other(error: ValueError | OSError | RecursionError) -> str:
    """Return a message in one line for what Hydra does not report as an error of the composition."""
    if isinstance(error, RecursionError):
        return "the defaults list of a YAML file names the file itself, or one that names it; remove the circle"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}; remove or correct the setting of hydra that names it"
    if "group override" in str(error):
        return f"{first_line(error)}; write GROUP=NAME for a config group, and KEY.NAME=VALUE for a key"
    return f"{first_line(error)}; correct the defaults list, for example `defaults: [math_rlvr/arithmetic, _self_]`"


def _missing_file(error: MissingConfigException) -> str:
    # Without the search path, which does not help with a misspelled name.
    message = str(error).partition("Config search path:")[0].strip().splitlines()[0].rstrip(".")
    group, _, name = (error.missing_cfg_file or "").partition("/")
    if group not in CONFIG_GROUPS:
        return f"{message}; correct the name, or add its folder with --config-dir"
    known = group_names(group)
    return f"{message}{did_you_mean(name, known)}; known names: {', '.join(known)}"
