"""Reads the tasks of reasoning-gym and their settings from the command line; a mistake is one line with the fix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from reinforcepp_verl.common.wording import did_you_mean, first_line, shown
from reinforcepp_verl.rewards import gym_package

NO_TASK = "composite"
"""Mixes other tasks, as --tasks does."""
OWN_OPTIONS = ("seed", "size")
Settings = dict[str, dict[str, Any]]


def known_tasks() -> list[str]:
    """Return the names of all tasks."""
    return sorted(name for name in gym_package.factory().DATASETS if name != NO_TASK)


def read_tasks(text: str | None) -> list[str]:
    """Return the tasks named in a text, separated by commas, each once."""
    known = known_tasks()
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if not names:
        raise ValueError(
            "reasoning_gym needs --tasks: names separated by commas, such as chain_sum,spell_backward, or all; "
            "docs/reasoning_gym.md lists them"
        )
    if names == ["all"]:
        return known
    for name in names:
        if name not in known:
            raise ValueError(
                f"--tasks: reasoning-gym has no task {shown(name)}{did_you_mean(name, known)}; docs/reasoning_gym.md "
                "lists them"
            )
    return list(dict.fromkeys(names))


def read_settings(texts: Sequence[str], tasks: Sequence[str]) -> Settings:
    """Return the settings of each task from texts TASK.KEY=VALUE, with values in YAML."""
    settings: Settings = {task: {} for task in tasks}
    for text in texts:
        path, equals, given = text.partition("=")
        task, dot, key = path.strip().partition(".")
        if not equals or not dot:
            raise ValueError(f"--config {text}: write TASK.KEY=VALUE, such as chain_sum.max_terms=4")
        if task not in settings:
            raise ValueError(f"--config {text}: {task} is not in --tasks{did_you_mean(task, tasks)}; add it there")
        settings[task][key] = _value(text, task, key, given)
    for task in filter(settings.get, tasks):
        _validate(task, settings[task])
    return settings


def _value(text: str, task: str, key: str, given: str) -> Any:
    """Return the value of a setting, which has the type of its default."""
    defaults = vars(_config_class(task)())
    if key in OWN_OPTIONS:
        raise ValueError(f"--config {text}: use --{key}, which applies to every task")
    if key not in defaults:
        known = [name for name in defaults if name not in OWN_OPTIONS]
        raise ValueError(
            f"--config {text}: {task} has no setting {shown(key)}{did_you_mean(key, known)}; it has {', '.join(known)}"
        )
    try:
        value = yaml.safe_load(given)
    except yaml.YAMLError as error:
        raise ValueError(f"--config {text}: the value is not valid YAML ({first_line(error)}); correct it") from None
    default = defaults[key]
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if default is not None and type(value) is not type(default):
        raise ValueError(f"--config {text}: {key} must be of type {type(default).__name__}, as its default {default!r}")
    return value


def _validate(task: str, settings: Mapping[str, Any]) -> None:
    config = _config_class(task)(**settings)
    if not hasattr(config, "validate"):
        return
    try:
        config.validate()
    except Exception as error:  # mostly an AssertionError, but a task may raise anything
        given = ", ".join(f"{key}={value}" for key, value in settings.items())
        raise ValueError(f"--config: {task} refuses {given}: {first_line(error)}; change it") from None


def _config_class(task: str) -> Any:
    return gym_package.factory().DATASETS[task][1]
