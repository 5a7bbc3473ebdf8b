"""Reading JSON that may be damaged, and the last lines of a file."""

from __future__ import annotations

import math

import pytest

from reinforcepp_verl.common import json_text
from reinforcepp_verl.common.json_text import lines_from_the_end, parse_object, read_object

DAMAGED = [b"", b"{", b"\xff\xfe", b'{"a": 1', b"[" * 100_000, b"\x00" * 100, b"[1]", b"1", b'"text"', b"null"]


def test_python_writes_nan_and_it_is_read():
    found = parse_object(b'{"a": NaN, "b": -Infinity, "c": 1}')
    assert math.isnan(found["a"]) and found["b"] == -math.inf and found["c"] == 1


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: repr(text[:10]))
def test_anything_but_an_object_is_an_error_of_one_line_with_the_file(tmp_path, text):
    file = tmp_path / "x.json"
    file.write_bytes(text)
    with pytest.raises(ValueError) as error:
        read_object(file)
    assert str(error.value).startswith(f"{file}: not ") and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"a", b"a\n", b"a\nb", b"a\n\nb\n", b"x" * 50 + b"\n" + b"y" * 50 + b"\nz\n"])
@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_the_last_lines_come_first(tmp_path, monkeypatch, content, block):
    monkeypatch.setattr(json_text, "FIRST_BLOCK", block)
    file = tmp_path / "x"
    file.write_bytes(content)
    assert list(lines_from_the_end(file)) == content.split(b"\n")[::-1]


def test_only_the_end_of_a_long_file_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(json_text, "FIRST_BLOCK", 8)
    monkeypatch.setattr(json_text, "LAST_BLOCKS", 32)
    (tmp_path / "x").write_bytes(b"line\n" * 1000)
    found = list(lines_from_the_end(tmp_path / "x"))
    assert found[:3] == [b"", b"line", b"line"] and len(found) < 20
