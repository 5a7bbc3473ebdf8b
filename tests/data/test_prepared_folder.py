"""How a prepared folder is moved into place, and what remains if that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from reinforcepp_verl.common.replaced_folder import replace_folder

RENAME = Path.rename


def fill(out, text):
    with replace_folder(out) as folder:
        (folder / "file").write_text(text)


def test_a_folder_is_replaced_atomically(tmp_path):
    fill(tmp_path / "out", "old")
    fill(tmp_path / "out", "new")
    assert (tmp_path / "out" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [True, False])
def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch, error, before):
    out = tmp_path / "out"
    fill(out, "old")

    def rename(source, target):
        if source.name == "made" and before:
            raise error
        moved = RENAME(source, target)
        if source == out and not before:
            raise error
        return moved

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(error):
        fill(out, "new")
    assert (out / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_was_moved_into_place_stays_there_after_later_errors(tmp_path, monkeypatch):
    out = tmp_path / "out"
    fill(out, "old")

    def rename(source, target):
        RENAME(source, target)
        if source.name == "made":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        fill(out, "new")
    assert (out / "file").read_text() == "new"
