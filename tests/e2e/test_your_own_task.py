"""All code blocks of docs/your_own_task.md, up to the end of its training run."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.long]

PAGE = (Path(__file__).parents[2] / "docs" / "your_own_task.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
FILE = re.compile(r"^# (\S+\.(?:py|yaml))$", re.MULTILINE)


def test_the_page_trains_on_its_own_data_with_its_own_reward(start, workplace):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    outputs = []
    for language, text in BLOCKS:
        if language == "bash":
            outputs.append(start("bash", "-ec", text, PATH=path).output())
        else:
            file = workplace / FILE.search(text)[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    assert "finished: 15 steps" in outputs[-1]
    run = (workplace / "runs" / "latest").resolve()
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    accuracy = [record["val-core/sums/acc/mean@1"] for record in records if "val-core/sums/acc/mean@1" in record]
    assert accuracy[-1] > accuracy[0] > 0
    answers = [json.loads(line) for line in (run / "validation" / "15.jsonl").read_text().splitlines()]
    assert len(answers) == 200 and all(isinstance(answer["gts"], list) for answer in answers)
