"""vLLM refuses to start: the console shows its own error, not those that follow from it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.long]

COMMAND = Path(sys.executable).with_name("reinforcepp")


def test_an_engine_that_cannot_allocate_its_cache_says_so(start, workplace):
    # More than any machine has, in GiB.
    output = start(COMMAND, "train", "+recipe=math_rlvr/arithmetic", VLLM_CPU_KVCACHE_SPACE="900000").output(
        exit_code=1
    )
    last = output[output.index("failed: ") :].splitlines()
    assert "Decrease --kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE" in "\n".join(last), output
    assert len(last) <= 4 and "Traceback" not in output
    summary = json.loads((workplace / "runs" / "latest" / "summary.json").read_text())
    assert summary["status"] == "failed" and "VLLM_CPU_KVCACHE_SPACE" in summary["error"]
