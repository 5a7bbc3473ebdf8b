"""`reinforcepp doctor` with a real Ray worker and a real vLLM import."""

from __future__ import annotations

from pathlib import Path

import pytest

from reinforcepp_verl.doctor import subprocess_probes
from reinforcepp_verl.doctor.machine_checks import run_checks


@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_plugin_is_live_here_and_in_a_ray_worker_and_nothing_is_left_behind(monkeypatch):
    # The limit is for people, who wait for an answer; this test may run beside others.
    monkeypatch.setattr(subprocess_probes, "PROBE_SECONDS", 250)
    before = set(Path("/tmp").glob("doctor-*"))
    findings = {finding.name: finding for finding in run_checks(ray=True)}
    for name in ("plugin in a process", "plugin in a Ray worker"):
        assert findings[name].status == "ok", findings[name]
        assert findings[name].detail.startswith("registered, platform ")
    assert findings["vLLM"].status == "ok", findings["vLLM"]
    # Ray keeps everything, including sockets, in the deleted folder, so no daemon can be alive.
    assert set(Path("/tmp").glob("doctor-*")) <= before
