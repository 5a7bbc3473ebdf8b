"""Module paths written into run folders and users' YAML: runs must resume after the package is updated."""

import pkgutil
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.config import search_path
from reinforcepp_verl.runs.attempt import write_config
from reinforcepp_verl.tasks.calculator_task import write_tools

# Never remove or rename one: move the code and leave the old path importable.
IN_CONFIGURATIONS = {
    "reinforcepp_verl.integration.calculator_tool.CalculatorTool",
    "reinforcepp_verl.integration.greedy_rollouts.GreedyAgentLoopManager",
    "reinforcepp_verl.integration.policy_loss_config.PolicyLossWithOptions",
    "reinforcepp_verl.integration.replay_buffer",
    "reinforcepp_verl.integration.rollout_seeds.SeededAgentLoopManager",
    "reinforcepp_verl.integration.verl_patches.install",
    "reinforcepp_verl.rewards.arithmetic",
    "reinforcepp_verl.rewards.calculator",
    "reinforcepp_verl.rewards.imperfect_arithmetic",
    "reinforcepp_verl.rewards.math",
    "reinforcepp_verl.rewards.packing_list",
    "reinforcepp_verl.rewards.reasoning_gym",
    "reinforcepp_verl.rewards.running_sums",
}
ENTRY_POINTS = {
    "verl.plugins": "reinforcepp_verl.plugin",
    "vllm.general_plugins": "reinforcepp_verl.integration.cpu.vllm_plugin:register",
}
_PATH = re.compile(r"^[^#\n]*?(reinforcepp_verl(?:\.\w+)+)", re.MULTILINE)


def _paths(file: Path) -> set[str]:
    return set(_PATH.findall(file.read_text(encoding="utf-8")))


def test_the_configurations_name_these_paths_and_no_others(compose, tmp_path):
    """Those of this package, the one that every attempt and every checkpoint gets, and the tools of a prepared task."""
    folder = search_path.config_dir()
    files = [file for root in (folder, (folder / "recipe").resolve()) for file in Path(root).rglob("*.yaml")]
    attempt = RunFolder(tmp_path).new_attempt()
    write_config(compose("+recipe=math_rlvr/arithmetic"), attempt)
    assert "reinforcepp_verl.integration.verl_patches.install" in _paths(attempt.config)
    write_tools(tools := tmp_path / "tools.yaml")
    assert set().union(*map(_paths, [*files, attempt.config, tools])) == IN_CONFIGURATIONS


@pytest.mark.parametrize("path", sorted(IN_CONFIGURATIONS))
def test_the_path_can_be_imported(path):
    pkgutil.resolve_name(path)


@pytest.mark.parametrize(("group", "value"), ENTRY_POINTS.items())
def test_the_entry_point_names_this_path(group, value):
    assert value in {point.value for point in entry_points(group=group)}
