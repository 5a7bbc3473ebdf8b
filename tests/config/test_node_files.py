"""hydra_configs/reinforcepp/*.yaml match the dataclasses, and every key has its comment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from reinforcepp_verl.algorithm.options import PRESETS
from reinforcepp_verl.config import search_path
from reinforcepp_verl.config.schema import compose_base as compose

ROOT = Path(__file__).parents[2]
FOLDER = search_path.config_dir() / "reinforcepp"


@pytest.mark.skipif(not (ROOT / "tools").is_dir(), reason="not a checkout")
def test_the_files_match_the_dataclasses():
    done = subprocess.run([sys.executable, "tools/write_nodes.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"run `make nodes`\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", search_path.TYPED_NODES)
def test_a_node_has_the_types_and_the_defaults_of_its_class(name):
    cls = search_path.TYPED_NODES[name]
    node = compose(f"+reinforcepp@mine={name}").mine
    assert OmegaConf.get_type(node) is cls
    assert OmegaConf.to_object(node) == cls()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_equals_its_namesake_and_lists_only_differences(name):
    assert (
        OmegaConf.to_object(compose(f"reinforcepp@algorithm.reinforcepp={name}").algorithm.reinforcepp) == PRESETS[name]
    )
    said = set(OmegaConf.load(FOLDER / f"{name}.yaml")) - {"defaults"}
    default = vars(PRESETS["openrlhf"])
    differs = {key for key, value in vars(PRESETS[name]).items() if value != default[key]}
    assert said == (set(default) if name == "openrlhf" else differs)


def test_a_value_of_the_wrong_type_does_not_compose():
    with pytest.raises(ConfigCompositionException, match="guards.patience"):
        compose("guards.patience=often")
