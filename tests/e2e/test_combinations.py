"""Each line of docs/combinations.md trains three steps through real verl."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.long]

PAGE = Path(__file__).parents[2] / "docs" / "combinations.md"
ROWS = re.findall(r"^\| (\S.+?) \|.*\| `(.+)` \|$", PAGE.read_text(), re.MULTILINE)
OVERRIDES = {re.sub(r"\[(.+?)\]\(.+?\)", r"\1", name): line.split() for name, line in ROWS}
SHORT = [
    *("trainer.total_training_steps=3", "trainer.val_before_train=false", "trainer.test_freq=-1"),
    "actor_rollout_ref.rollout.agent.num_workers=1",
]
# A metric that only this combination has, or a value that it gives to one.
SIGNS = {
    "Dynamic sampling (DAPO)": ("reinforcepp/zero_signal_groups", lambda value: value == 0),
    "Truncated importance sampling": ("rollout_corr/rollout_is_mean", lambda value: abs(value - 1) < 0.1),
    "Entropy bonus": ("actor/entropy_loss", lambda value: value > 0),
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_combination_trains(train, name):
    run, output = train("+method=reinforcepp_baseline", *OVERRIDES[name], *SHORT)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3]
    for record in records:
        assert record["actor/grad_norm"] > 0
        assert all(math.isfinite(value) for value in record.values()), record
    if name in SIGNS:
        metric, holds = SIGNS[name]
        assert all(holds(record[metric]) for record in records)
