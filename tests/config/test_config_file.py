"""Reading config.yaml, whole or one value of it, also when it is damaged."""

from __future__ import annotations

import re

import pytest
from omegaconf import OmegaConf

from reinforcepp_verl.config import config_file, keys

DAMAGED = {
    "empty": b"",
    "cut off": b"trainer: {a: [1",
    "binary": b"\x00\x01\xff\xfe" * 10,
    "text": b"hello",
    "number": b"7",
    "list": b"- 1\n- 2\n",
    "not UTF-8": b"a: \xff\n",
    "broken reference": b"a: ${b\n",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named_in_one_line(tmp_path, content):
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    for read in (config_file.load, lambda path: config_file.value(path, "trainer.seed")):
        with pytest.raises(ValueError) as error:
            read(file)
        assert re.match(rf"{file}(: not a readable config \(|, line \d+: |: )", str(error.value))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "key", [keys.TOTAL_TRAINING_STEPS, keys.EXPERIMENT_NAME, keys.SEED, keys.RESUME_MODE, "no.key"]
)
def test_one_value_is_that_of_the_whole_file(compose, tmp_path, key):
    file = tmp_path / "config.yaml"
    file.write_text(OmegaConf.to_yaml(compose("+recipe=math_rlvr/arithmetic"), resolve=True))
    assert config_file.value(file, key) == OmegaConf.select(OmegaConf.load(file), key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trainer: {seed: 3}\n", 3),
        ("other: x\ntrainer:\n  # a comment\n\n  seed: 3\nlast: y\n", 3),
        ("trainer:\n  seed: ${data.seed}\ndata: {seed: 3}\n", 3),
        ("data: &d {seed: 3}\ntrainer: *d\n", 3),
        ("trainer: {seed: null}\n", None),
        ("trainer: 7\n", None),
    ],
)
def test_one_value_in_any_notation(tmp_path, text, expected):
    (tmp_path / "config.yaml").write_text(text)
    assert config_file.value(tmp_path / "config.yaml", "trainer.seed") == expected


def test_the_first_file_that_can_be_read_counts(tmp_path):
    missing, damaged, good = (tmp_path / name for name in ("missing", "damaged", "good"))
    damaged.write_bytes(b"")
    good.write_text("a: 1\n")
    assert config_file.first_value([missing, damaged, good], "a") == 1
    assert config_file.first_value([missing], "a") is None
    with pytest.raises(ValueError, match="damaged: not a readable config"):
        config_file.first_value([missing, damaged], "a")
