"""Atomic writes: what is on disk after an error, and that the error names the file."""

from __future__ import annotations

import errno

import pytest

from reinforcepp_verl.common import durable


def test_parts_are_written_as_one_file(tmp_path):
    durable.write(tmp_path / "x", (part for part in (b"a", b"b")))
    durable.append(tmp_path / "x", b"c")
    assert (tmp_path / "x").read_bytes() == b"abc"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path):
    def parts():
        yield b"new"
        raise OSError(errno.ENOSPC, "No space left on device")

    durable.write(tmp_path / "x", b"old")
    with pytest.raises(OSError, match=r"No space left on device: '.*/x'"):
        durable.write(tmp_path / "x", parts())
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("write", [durable.append, lambda path, content: path.write_bytes(content)])
def test_a_full_disk_is_named(write):
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"), durable.naming("/dev/full"):
        from pathlib import Path

        write(Path("/dev/full"), b"content")


def test_an_error_that_names_its_file_is_left_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="inner"), durable.naming(tmp_path / "outer"):
        (tmp_path / "inner").read_bytes()
