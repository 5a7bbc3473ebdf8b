"""Ray's start, tried again if only the machine was slow."""

from __future__ import annotations

import pytest

from reinforcepp_verl.common.slow_ray_start import retry_slow_ray_start


def test_only_a_slow_start_of_ray_is_retried():
    slow = Exception("The current node timed out during startup. This could happen because ...")
    calls = iter([slow, slow, None])

    def start():
        if error := next(calls):
            raise error

    retry_slow_ray_start(start)
    calls = iter([slow, ValueError("a mistake"), None])
    with pytest.raises(ValueError, match="a mistake"):
        retry_slow_ray_start(start)
