"""The reward function and its options: whether file and function exist; reward_import runs the file."""

from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.algorithm.registry import ESTIMATORS
from reinforcepp_verl.common.wording import did_you_mean
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.math_reward_options import MathRewardOptions
from reinforcepp_verl.config.nodes import read_reward_errors
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.config.reasoning_gym_reward_options import ReasoningGymRewardOptions
from reinforcepp_verl.config.reward_error_options import OUR_REWARD_MANAGER, RewardErrorOptions
from reinforcepp_verl.config.reward_kwargs import RewardKwargs
from reinforcepp_verl.rewards import gym_package

OUR_REWARDS = "pkg://reinforcepp_verl.rewards."
MATH_REWARD, GYM_REWARD = f"{OUR_REWARDS}math", f"{OUR_REWARDS}reasoning_gym"
OPTIONS: Mapping[str, type[RewardKwargs]] = {MATH_REWARD: MathRewardOptions, GYM_REWARD: ReasoningGymRewardOptions}
"""The options of those of our rewards that have any; +reward_function= declares them."""
ROUTER_ARGUMENT = "reward_router_address"
REWARD_MODEL_ARGUMENTS = (ROUTER_ARGUMENT, "reward_model_tokenizer")
"""verl passes them to a reward function if there is a reward model."""


def check(config: DictConfig) -> list[str]:
    """Check the function, then its options, then the handling of its errors."""
    return [*_function(config), *_options(config), *_errors(config)]


def _function(config: DictConfig) -> list[str]:
    """Find the function's source file and look for the function in it."""
    path, name = value(config, keys.REWARD_FUNCTION_PATH), value(config, keys.REWARD_FUNCTION_NAME)
    if not path:
        return []
    source = source_file(path)
    if source is None:
        return [
            f"{keys.REWARD_FUNCTION_PATH} is {path}: no such module or file; set it to a .py file or to "
            "pkg://PACKAGE.MODULE"
        ]
    try:
        module = ast.parse(source.read_text(encoding="utf-8"))
        names, functions = _top_level_names(module)
    except (SyntaxError, ValueError, RecursionError) as error:
        return [f"{keys.REWARD_FUNCTION_PATH} is {path}: it is not Python ({error}); correct the file"]
    if name in names or "*" in names:
        return _asks_reward_model(config, module)
    choice = f", or set {keys.REWARD_FUNCTION_NAME} to one of {', '.join(functions)}" if functions else ""
    return [
        f"{keys.REWARD_FUNCTION_NAME} is {name}: {path} defines no such function{did_you_mean(name, functions)}; "
        f"define it{choice}"
    ]


def _asks_reward_model(config: DictConfig, module: ast.Module) -> list[str]:
    """Check a function against the reward model, whose address verl passes only where both are in use.

    A colocated reward model scores whole batches, without the columns that built-in managers pass to a function.
    """
    path, name = value(config, keys.REWARD_FUNCTION_PATH), value(config, keys.REWARD_FUNCTION_NAME)
    if not value(config, keys.REWARD_MODEL_ENABLE):
        if ROUTER_ARGUMENT not in _required_arguments(module, name):
            return []
        return [
            f"{keys.REWARD_MODEL_ENABLE} is false: {name} of {path} needs a reward model ({ROUTER_ARGUMENT}); set "
            f"{keys.REWARD_MODEL_ENABLE}=true, with {keys.REWARD_MODEL_PATH} and {keys.REWARD_MODEL_ROLLOUT_NAME}=vllm"
        ]
    built_in = value(config, keys.REWARD_MANAGER_SOURCE) == "register"
    if value(config, keys.REWARD_MODEL_ENABLE_RESOURCE_POOL) or not built_in:
        return []
    return [
        f"{keys.REWARD_MODEL_ENABLE_RESOURCE_POOL} is false: verl passes no ground truth to a reward function if the "
        f"reward model shares the policy's GPUs; set {keys.REWARD_MODEL_ENABLE_RESOURCE_POOL}=true, or "
        f"{keys.REWARD_FUNCTION_PATH}=null to use the reward model's score alone"
    ]


def _required_arguments(module: ast.Module, name: str) -> set[str]:
    """Return the arguments without a default of a function in a module."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            positional = [*node.args.posonlyargs, *node.args.args]
            required = positional[: len(positional) - len(node.args.defaults)]
            keyword = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            return {each.arg for each in (*required, *(each for each, default in keyword if default is None))}
    return set()


def _options(config: DictConfig) -> list[str]:
    """Check the options of our rewards, and that they are not passed to another function."""
    node, path = value(config, keys.REWARD_KWARGS), value(config, keys.REWARD_FUNCTION_PATH)
    for other, options in OPTIONS.items():
        if OmegaConf.get_type(node) is options and path != other:
            return [
                f"{keys.REWARD_FUNCTION_PATH} is {path}, but {keys.REWARD_KWARGS} has the options of "
                f"{_selection(other)}; remove them with '~{keys.REWARD_KWARGS}'"
            ]
    if path not in OPTIONS:
        return []
    try:
        chosen = OPTIONS[path].from_mapping(node or {})
    except ValueError as error:
        return [str(error)]
    except TypeError as error:
        return [f"{keys.REWARD_KWARGS}: {error}; select this reward with {_selection(path)}, which checks the types"]
    if path == GYM_REWARD and (install := gym_package.missing()):
        return [f"{keys.REWARD_FUNCTION_PATH} is {path}: {install}"]
    manager = value(config, keys.REWARD_MANAGER_NAME)
    if not (isinstance(chosen, MathRewardOptions) and chosen.needs_length) or manager == OUR_REWARD_MANAGER:
        return []
    return [
        f"{keys.REWARD_MANAGER_NAME} is {manager}: only {OUR_REWARD_MANAGER} passes the length of an answer to the "
        f"math reward, which overlong_max_tokens and truncated_penalty need; set "
        f"{keys.REWARD_MANAGER_NAME}={OUR_REWARD_MANAGER}, or both to null"
    ]


def _selection(path: str) -> str:
    return f"+reward_function={path.removeprefix(OUR_REWARDS)}"


def _errors(config: DictConfig) -> list[str]:
    if value(config, keys.REWARD_ERRORS) is None:
        return [
            f"{keys.REWARD_ERRORS} is null: remove this setting to use the defaults; {keys.REWARD_ERRORS}.max_rate=1 "
            "never stops"
        ]
    try:
        options = read_reward_errors(config)
    except ValueError as error:
        return [str(error)]
    manager = value(config, keys.REWARD_MANAGER_NAME)
    if manager != OUR_REWARD_MANAGER and options != RewardErrorOptions():
        return [
            f"{keys.REWARD_ERRORS} is set, but {keys.REWARD_MANAGER_NAME} is {manager}, which does not read it; set "
            f"{keys.REWARD_MANAGER_NAME}={OUR_REWARD_MANAGER}"
        ]
    estimator_is_registered = value(config, keys.ADV_ESTIMATOR) in ESTIMATORS
    drops_rows = estimator_is_registered and value(config, keys.NONFINITE) == "drop"
    if math.isnan(options.score) and not drops_rows:
        needed = "" if estimator_is_registered else f" and one of the estimators {', '.join(ESTIMATORS)}"
        return [
            f"{keys.REWARD_ERRORS}.score is nan: that needs {keys.NONFINITE}=drop{needed}; set it, or "
            f"{keys.REWARD_ERRORS}.score=0"
        ]
    return []


def source_file(path: str) -> Path | None:
    """Return the source file of verl's `pkg://a.b`, `file://...` or plain path, None if there is none."""
    if not path.startswith("pkg://"):
        file = Path(path.removeprefix("file://"))
        return file if file.is_file() else None
    try:
        spec = importlib.util.find_spec(path.removeprefix("pkg://").replace("/", "."))
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _top_level_names(module: ast.Module) -> tuple[set[str], list[str]]:
    """Return all names that a module may define, and those of its own public functions."""
    names: set[str] = set()
    functions = [node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in module.body:
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.If | ast.Try):
            names.add("*")  # what it defines depends on the machine
    return names.union(functions), sorted(name for name in functions if not name.startswith("_"))
