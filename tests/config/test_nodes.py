"""The strict reading of the node `algorithm.reinforcepp`."""

import pytest
from omegaconf import OmegaConf, open_dict

from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.config.nodes import read_options


@pytest.mark.parametrize("node", [None, {}, OmegaConf.create({}), OmegaConf.structured(ReinforceppOptions)])
def test_absent_keys_take_the_defaults(node):
    assert read_options(node) == ReinforceppOptions(variance_floor=1e-8, unbiased_variance=False)


@pytest.mark.parametrize("make_node", [dict, OmegaConf.create])
def test_given_keys_override_the_defaults(make_node):
    options = read_options(make_node({"variance_floor": 1e-4, "unbiased_variance": True}))
    assert options == ReinforceppOptions(variance_floor=1e-4, unbiased_variance=True)


def test_a_clip_is_read_from_a_list_and_switched_off_by_null():
    assert read_options({"reward_clip": [-1, 2]}).reward_clip == [-1.0, 2.0]
    assert read_options(OmegaConf.create("reward_clip: null")).reward_clip is None


def test_yaml_reads_1e_6_as_text_and_it_is_accepted_as_a_float():
    assert read_options(OmegaConf.create("variance_floor: 1e-6")).variance_floor == 1e-6


def test_interpolations_are_resolved():
    config = OmegaConf.create({"floor": 0.5, "reinforcepp": {"variance_floor": "${floor}"}})
    assert read_options(config.reinforcepp).variance_floor == 0.5


@pytest.mark.parametrize("make_node", [dict, OmegaConf.create])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variance_flor": 1e-8}, r"algorithm\.reinforcepp\.variance_flor: .*valid keys: population, unbiased_"),
        ({"variance_floor": "small"}, r"algorithm\.reinforcepp\.variance_floor: .*'small'"),
        ({"variance_floor": True}, r"algorithm\.reinforcepp\.variance_floor: "),
        ({"variance_floor": None}, r"algorithm\.reinforcepp\.variance_floor: "),
        ({"variance_floor": {"value": 1.0}}, r"algorithm\.reinforcepp\.variance_floor: "),
        ({"unbiased_variance": "maybe"}, r"algorithm\.reinforcepp\.unbiased_variance: .*'maybe'"),
        ({"variance_floor": 0.0}, r"algorithm\.reinforcepp\.variance_floor is 0\.0: it must be finite and > 0"),
        ({"variance_floor": -1.0}, r"algorithm\.reinforcepp\.variance_floor is -1\.0"),
        ({"variance_floor": float("inf")}, r"algorithm\.reinforcepp\.variance_floor is inf"),
        ({"population": "tokens"}, r"algorithm\.reinforcepp\.population is 'tokens': it must be one of token, sample"),
        ({"reward_norm": "z"}, r"algorithm\.reinforcepp\.reward_norm is 'z': it must be one of none, batch, running"),
        ({"reward_scale": 0}, r"algorithm\.reinforcepp\.reward_scale is 0\.0: it must be finite and > 0"),
        ({"reward_clip": [1, 2]}, r"algorithm\.reinforcepp\.reward_clip is \[1\.0, 2\.0\]: .*low <= 0 <= high"),
        ({"reward_clip": [-1]}, r"algorithm\.reinforcepp\.reward_clip is \[-1\.0\]"),
        ({"reward_clip": 10}, r"algorithm\.reinforcepp\.reward_clip: "),
        ({"statistics_window": 0}, r"algorithm\.reinforcepp\.statistics_window is 0: it must be 1 or more"),
        ({"variance_floor": float("nan")}, r"algorithm\.reinforcepp\.variance_floor is nan"),
    ],
)
def test_wrong_options_fail_with_one_line_that_names_the_key(make_node, options, message):
    with pytest.raises(ValueError, match=message) as error:
        read_options(make_node(options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("node", ["default", 3, OmegaConf.create([1])])
def test_a_node_that_is_not_a_mapping_fails(node):
    with pytest.raises(ValueError, match=r"algorithm\.reinforcepp is .*: it must be a mapping"):
        read_options(node)


def test_a_key_added_to_a_typed_node_fails():
    node = OmegaConf.structured(ReinforceppOptions)
    with open_dict(node):
        node.extra = 1
    with pytest.raises(ValueError, match=r"algorithm\.reinforcepp\.extra"):
        read_options(node)
