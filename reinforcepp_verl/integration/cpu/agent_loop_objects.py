"""Makes the agent loop of an answer by calling its class.

verl makes one for every answer with `hydra.utils.instantiate`, which merges and copies the arguments as configurations;
with a toy model that is much of an agent loop worker's time. The arguments are the same, and so is the object.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import hydra

MODULE = "verl.experimental.agent_loop.agent_loop"
TARGET = "_target_"
SCALARS = (str, int, float, bool, type(None))


def call_classes(module: Any) -> None:
    """Let verl's agent loop workers use `instantiate`."""
    module.hydra = SimpleNamespace(utils=SimpleNamespace(instantiate=instantiate))


def instantiate(config: Any, **arguments: Any) -> Any:
    """Call the class that `config` names with the arguments there and those given.

    Anything more that Hydra would do, with nested configurations, its own settings or functions, is left to it.
    """
    given = {name: value for name, value in config.items() if name != TARGET}
    simple = all(isinstance(value, SCALARS) and not name.startswith("_") for name, value in given.items())
    target = _object(config[TARGET]) if TARGET in config and simple else None
    if not isinstance(target, type):
        return hydra.utils.instantiate(config=config, **arguments)
    return target(**{**given, **arguments})


_object = functools.cache(hydra.utils.get_object)
