"""The strict reading of the node `algorithm.reinforcepp`."""

import pytest
from omegaconf import OmegaConf, open_dict

from reinforcepp_verl.config import ReinforceppConfig


@pytest.mark.parametrize("node", [None, {}, OmegaConf.create({}), OmegaConf.structured(ReinforceppConfig)])
def test_absent_keys_take_the_defaults(node):
    assert ReinforceppConfig.from_node(node) == ReinforceppConfig(variance_floor=1e-8, unbiased_variance=False)


@pytest.mark.parametrize("make_node", [dict, OmegaConf.create])
def test_given_keys_win(make_node):
    options = ReinforceppConfig.from_node(make_node({"variance_floor": 1e-4, "unbiased_variance": True}))
    assert options == ReinforceppConfig(variance_floor=1e-4, unbiased_variance=True)


def test_yaml_reads_1e_6_as_text_and_it_still_counts_as_a_float():
    assert ReinforceppConfig.from_node(OmegaConf.create("variance_floor: 1e-6")).variance_floor == 1e-6


def test_interpolations_are_resolved():
    config = OmegaConf.create({"floor": 0.5, "reinforcepp": {"variance_floor": "${floor}"}})
    assert ReinforceppConfig.from_node(config.reinforcepp).variance_floor == 0.5


@pytest.mark.parametrize("make_node", [dict, OmegaConf.create])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variance_flor": 1e-8}, r"algorithm\.reinforcepp\.variance_flor: .*valid keys: variance_floor, unbiased_"),
        ({"variance_floor": "small"}, r"algorithm\.reinforcepp\.variance_floor: .*'small'"),
        ({"variance_floor": True}, r"algorithm\.reinforcepp\.variance_floor: "),
        ({"variance_floor": None}, r"algorithm\.reinforcepp\.variance_floor: "),
        ({"variance_floor": {"value": 1.0}}, r"algorithm\.reinforcepp\.variance_floor: "),
        ({"unbiased_variance": "maybe"}, r"algorithm\.reinforcepp\.unbiased_variance: .*'maybe'"),
        ({"variance_floor": 0.0}, r"algorithm\.reinforcepp\.variance_floor is 0\.0: it must be finite and > 0"),
        ({"variance_floor": -1.0}, r"algorithm\.reinforcepp\.variance_floor is -1\.0"),
        ({"variance_floor": float("inf")}, r"algorithm\.reinforcepp\.variance_floor is inf"),
        ({"variance_floor": float("nan")}, r"algorithm\.reinforcepp\.variance_floor is nan"),
    ],
)
def test_wrong_options_fail_with_one_line_that_names_the_key(make_node, options, message):
    with pytest.raises(ValueError, match=message) as error:
        ReinforceppConfig.from_node(make_node(options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("node", ["default", 3, OmegaConf.create([1])])
def test_a_node_that_is_no_mapping_fails(node):
    with pytest.raises(ValueError, match=r"algorithm\.reinforcepp is .*: it must be a mapping"):
        ReinforceppConfig.from_node(node)


def test_a_key_added_to_a_typed_node_fails():
    node = OmegaConf.structured(ReinforceppConfig)
    with open_dict(node):
        node.extra = 1
    with pytest.raises(ValueError, match=r"algorithm\.reinforcepp\.extra"):
        ReinforceppConfig.from_node(node)
