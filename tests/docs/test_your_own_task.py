"""docs/your_own_task.md: its files and commands as they are there, and its table of layouts."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from reinforcepp_verl.data.sources import SOURCES

PAGE = (Path(__file__).parents[2] / "docs" / "your_own_task.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
FILE = re.compile(r"^# (\S+\.(?:py|yaml))$", re.MULTILINE)
MODEL = "reinforcepp prepare arithmetic\n"  # a test has a smaller one
TRAIN = "reinforcepp train"  # tests/e2e/test_your_own_task.py


@pytest.fixture
def do(reinforcepp, monkeypatch):
    """Return a function that runs one command of the page; those of reinforcepp in this process."""

    def run(line: str) -> str:
        program, *arguments = shlex.split(line)
        if program == "export":
            monkeypatch.setenv(*arguments[0].split("=", 1))
            monkeypatch.syspath_prepend(arguments[0].split("=", 1)[1])
            return ""
        if program == "python":
            runpy.run_path(*arguments)
            return ""
        assert program == "reinforcepp", line
        result = reinforcepp(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_the_page_prepares_its_data_and_its_recipe_passes_the_checks(arithmetic, tmp_path, monkeypatch, do):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "arithmetic").symlink_to(arithmetic / "data" / "arithmetic")
    monkeypatch.chdir(tmp_path)
    shown = []
    for language, text in BLOCKS:
        if language != "bash":
            file = Path(FILE.search(text)[1])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        elif text != MODEL and TRAIN not in text:
            shown += [do(line) for line in text.replace("\\\n", "").splitlines()]
    assert "configuration is valid" in shown[-1]
    train, test = (pq.read_table(f"data/sums/{split}.parquet").to_pylist() for split in ("train", "test"))
    assert len(test) == 200 and {row["data_source"] for row in train + test} == {"sums"}
    [message] = test[0]["prompt"]
    truth = test[0]["reward_model"]["ground_truth"]
    left, right = message["content"].removesuffix("=").split("+")
    assert truth == [str(int(left) + int(right)), f"{int(left) + int(right):03}"]

    score = runpy.run_path("my_reward.py")["compute_score"]
    assert [score("sums", text, truth)["score"] for text in (f"{truth[0]}<eos>", truth[1], "<eos>")] == [1.0, 1.0, 0.0]


def test_the_page_lists_the_columns_of_every_task():
    rows = re.findall(r"^\| `(\w+)` \| (`.*) \|$", PAGE.partition("## Layouts with a name")[2], flags=re.MULTILINE)
    listed = {
        task: [tuple(re.findall(r"`(.*?)`", layout)) for layout in columns.split("; or ")] for task, columns in rows
    }
    assert listed == {name: list(source.layouts) for name, source in SOURCES.items()}
