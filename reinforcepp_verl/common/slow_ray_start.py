"""Starting Ray on a busy machine."""

from __future__ import annotations

from tenacity import Retrying, retry_if_exception, stop_after_attempt


def _ray_was_slow(error: BaseException) -> bool:
    return "node timed out during startup" in str(error)


# Ray waits 30 s for its own process, which is short on a busy machine and not configurable. At this point nothing that
# uses Ray has started, so it can be retried.
retry_slow_ray_start = Retrying(retry=retry_if_exception(_ray_was_slow), stop=stop_after_attempt(3), reraise=True)
