"""Composing configurations as `reinforcepp train` does, and a small copy of the arithmetic task for them."""

import contextlib
import functools
import gc
import hashlib
import logging
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import omegaconf.base
import pytest
import torch
import yaml
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.base import Box, Node
from typer.testing import CliRunner, Result

from reinforcepp_verl.config import schema, search_path
from reinforcepp_verl.integration.cpu.environment import SAME_ON_EVERY_CPU

GROUPS = ("+recipe=", "+method=", "cluster=", "+preset=", "+reward_function=")

SMALL_SERVER = """
import socket, sys, tempfile
from reinforcepp_verl.common.parent_process import end_with_parent
from reinforcepp_verl.integration.cpu import fork_server
end_with_parent(int(sys.argv[2]))
fork_server.MODULES = ("colorsys",)
tempfile.gettempdir()
fork_server.main(socket.socket(fileno=int(sys.argv[1])))
"""


# Before any fixture composes: every machine runs the tests on the CPU.
os.environ["VERL_PLATFORM"] = "cpu"

# Each full collection walks all objects of torch and verl: an eighth of the time of tests that read configurations.
gc.set_threshold(100_000, 20, 100)
# pytest-xdist's workers share the cores: torch's threads would mostly wait for each other.
torch.set_num_threads(1)

_load = OmegaConf.load


@functools.cache
def _pickled(file: str, modified_ns: int) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        # libyaml parses several times faster than PyYAML, but words its errors differently.
        patch.setattr(yaml, "SafeLoader", yaml.CSafeLoader)
        with contextlib.suppress(yaml.YAMLError):
            return pickle.dumps(_load(file))
    return pickle.dumps(_load(file))


def _load_once(file):
    """Parse a YAML file once per process: that is half the time of a composition, and hundreds of tests compose."""
    path = str(file if isinstance(file, str | Path) else file.name)
    return pickle.loads(_pickled(path, os.stat(path).st_mtime_ns))


OmegaConf.load = staticmethod(_load_once)
# A quarter of the time of most tests is spent parsing the same few hundred references.
omegaconf.base.parse = functools.cache(omegaconf.base.parse)


def _set_parents(node: Box) -> None:
    """Do the same as OmegaConf's method, which takes a quarter of the time of a composition."""
    content = node.__dict__["_content"]
    if isinstance(content, dict):
        children = list(content.values())
    else:
        children = content if isinstance(content, list) else [content] if isinstance(content, Node) else []
    for child in children:
        if child is not None:
            child.__dict__["_parent"] = node
            if isinstance(child, Box):
                child._re_parent()


Box._re_parent = _set_parents


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest tests first, so that the other workers of pytest-xdist do not wait for them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is None)


@functools.cache
def _compose_groups(shared: Path, groups: tuple[str, ...]) -> bytes:
    """Return the pickled composition: copying by pickle is many times faster than OmegaConf's own copy."""
    file = shared / f"{hashlib.sha256(' '.join(groups).encode()).hexdigest()}.pickle"
    if not file.exists():
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(pickle.dumps(schema.compose_base(*groups)))
        temporary.replace(file)
    return file.read_bytes()


@pytest.fixture(scope="session")
def compose(tmp_path_factory, worker_id) -> Callable[..., DictConfig]:
    """Compose by overrides in Hydra's syntax; keys may be new, as they may be in a user's YAML file."""
    root = tmp_path_factory.getbasetemp()
    # pytest-xdist's workers share what they composed.
    shared = (root if worker_id == "master" else root.parent) / "compositions"
    shared.mkdir(exist_ok=True)

    def composed(*overrides: str) -> DictConfig:
        groups = tuple(override for override in overrides if override.startswith(GROUPS))
        config = pickle.loads(_compose_groups(shared, groups))
        values = [override for override in overrides if override not in groups]
        for override in OverridesParser.create().parse_overrides(values):
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True, force_add=True)
        return config

    return composed


@pytest.fixture(scope="session")
def recipe_as_meant(compose) -> Callable[..., DictConfig]:
    """Compose a recipe for the machine that it is meant for."""

    def composed(name: str, *overrides: str) -> DictConfig:
        file = search_path.config_dir() / "recipe" / f"{name}.yaml"
        return compose(f"+recipe={name}", f"cluster={OmegaConf.load(file).hardware.meant_for}", *overrides)

    return composed


@pytest.fixture(scope="session")
def arithmetic(tmp_path_factory) -> Path:
    """A folder with data/arithmetic in it: real questions and tokenizer, untrained model."""
    from reinforcepp_verl.tasks import arithmetic_task as task
    from reinforcepp_verl.tasks.question_files import write_questions
    from reinforcepp_verl.tasks.warm_start import WarmStart, build_model

    root = tmp_path_factory.mktemp("arithmetic")
    folder = root / "data" / "arithmetic"
    folder.mkdir(parents=True)
    train, val = task.split_questions(seed=1)
    write_questions(task.DATA_SOURCE, train[:256], "train", folder)
    write_questions(task.DATA_SOURCE, val[:8], "val", folder)
    tokenizer = task.build_tokenizer()
    tokenizer.save_pretrained(folder / "model")
    build_model(tokenizer, WarmStart(hidden_size=32, layers=1)).save_pretrained(folder / "model")
    return root


@pytest.fixture(scope="session")
def small_server() -> str:
    """Return code that runs the fork server without its imports, but for one module that stands for them."""
    return SMALL_SERVER


@pytest.fixture(autouse=True)
def _cpu_platform(monkeypatch):
    """Have every machine that runs the tests use the CPU."""
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    for name in ("VERL_USE_EXTERNAL_PLUGINS", "RAY_ADDRESS", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)
    for name in SAME_ON_EVERY_CPU:
        # Commands export them, which is undone only if it is set here.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def reinforcepp(monkeypatch) -> Callable[..., Result]:
    """Return a function that runs `reinforcepp` in this process, without the imports of a new one."""

    def run(*arguments: str) -> Result:
        from reinforcepp_verl.cli import app

        root, level = logging.getLogger(), logging.getLogger().level
        handlers = root.handlers[:]
        monkeypatch.setattr(sys, "argv", sys.argv)
        # Hydra would compose once more just to read hydra.mode. With None it goes by the command line.
        monkeypatch.setattr(Hydra, "get_mode", lambda *_, **__: None)
        try:
            return CliRunner().invoke(app, list(arguments))
        finally:
            # Hydra sets up logging on the captured streams, and its switch for full errors stays set after an error.
            root.handlers, root.level = handlers, level
            os.environ.pop("HYDRA_FULL_ERROR", None)

    return run
