"""A run does not depend on what the shell that starts it has exported, or has not."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from reinforcepp_verl.runs.run_environment import ABOUT_ACCELERATORS

pytestmark = [pytest.mark.e2e, pytest.mark.long]

COMMAND = Path(sys.executable).with_name("reinforcepp")
DEAD_PROXY = "http://127.0.0.1:1"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "grpc_proxy")
HOSTILE = {
    **{name: "" if number % 2 else "0" for number, name in enumerate(ABOUT_ACCELERATORS)},
    "ONEAPI_DEVICE_SELECTOR": "nonsense",
    # Another Ray, and a torchrun whose variables have remained.
    **{"RAY_ADDRESS": "127.0.0.1:1", "RAY_NAMESPACE": "other", "MASTER_ADDR": "10.255.255.1", "MASTER_PORT": "1"},
    **{"RANK": "7", "LOCAL_RANK": "3", "WORLD_SIZE": "16"},
    **{name: DEAD_PROXY for name in PROXIES},
    "no_proxy": "example.org",
    # Nobody can write there, not even root.
    "HOME": "/proc",
    "RAY_TMPDIR": "/nowhere",
    **{"PYTHONPATH": "/nowhere:/etc/passwd", "PYTHONSTARTUP": "/nowhere/start.py"},
    # ASCII, also for files; without the last two Python would use UTF-8.
    **{"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    **{"OMP_NUM_THREADS": "many", "MKL_NUM_THREADS": "many", "MPLBACKEND": "TkAgg", "TERM": "none", "COLUMNS": "wide"},
}


def test_a_run_in_a_hostile_environment(start, workplace, tmp_path, monkeypatch):
    temporary = tmp_path / ("a long name with spaces, " * 5)
    temporary.mkdir()
    for name in ("USER", "LOGNAME", "VERL_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    options = ["trainer.total_training_steps=2", "trainer.val_before_train=false", "trainer.test_freq=2"]
    process = start(COMMAND, "train", "+recipe=math_rlvr/arithmetic", *options, TMPDIR=str(temporary), **HOSTILE)
    output = process.output()
    assert "finished: 2 steps" in output and "Traceback" not in output, output
    run = workplace / "runs" / "latest"
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    assert (run / "curves.png").is_file()
    assert os.listdir(temporary) == []
