"""The token of a run's own Ray: only this user can read it, and it is gone afterwards."""

from __future__ import annotations

import stat

import pytest

from reinforcepp_verl.runs import ray_token


def test_the_token_is_in_a_file_that_only_this_user_can_read(tmp_path):
    file = tmp_path / "ray_token"
    given = {"A": "b", ray_token.TOKEN: "another"}
    with ray_token.written(file, given) as environment:
        assert environment == {"A": "b", ray_token.MODE: "token", ray_token.TOKEN_PATH: str(file)}
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert len(file.read_text()) == 64
    assert not file.exists()
    with pytest.raises(RuntimeError), ray_token.written(file, given):
        raise RuntimeError
    assert not file.exists()


@pytest.mark.parametrize("mode", ["token", "disabled"])
def test_a_mode_that_the_user_set_is_kept(tmp_path, mode):
    with ray_token.written(tmp_path / "ray_token", given := {ray_token.MODE: mode}) as environment:
        assert environment == given
    assert list(tmp_path.iterdir()) == []
