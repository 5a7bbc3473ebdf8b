"""Run folders made by hand, and the parsed page of `reinforcepp report`."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from reinforcepp_verl.html_report.document import build
from reinforcepp_verl.training_samples.files import SampleFiles
from reinforcepp_verl.training_samples.record import PromptSample

REWARD = "critic/score/mean"
VOID = {"meta", "link", "br", "input"}


class Page(HTMLParser):
    """The elements of a page; fails if they are not properly nested."""

    def __init__(self, html: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html.decode()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.contents: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(self.html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)
            self.contents.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self._open:
            self.contents[self._open[-1]][-1] += text

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.contents["script"][0])

    @property
    def text(self) -> str:
        shown = {tag: texts for tag, texts in self.contents.items() if tag not in ("script", "style")}
        return "\n".join(text for texts in shown.values() for text in texts)

    def values(self, attribute: str) -> list[str]:
        return [value for _, name, value in self.attributes if name == attribute]


def records(steps: int) -> list[dict[str, float]]:
    timers = {"timing_s/step": 10.0, "timing_s/gen": 6.0, "timing_s/update_actor": 3.0}
    return [{"step": step, REWARD: step / steps, **timers} for step in range(1, steps + 1)]


@pytest.fixture
def page_of() -> Callable[..., Page]:
    """Return the parsed page of runs."""
    return lambda *runs: Page(build(runs).html)


MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path) -> MakeRun:
    def make(
        name: str = "run",
        *,
        steps: int = 3,
        experiment: str = "mine",
        seed: int = 1,
        config: dict[str, Any] | None = None,
        validation: dict[int, list[dict[str, Any]]] | None = None,
        samples: list[PromptSample] | None = None,
        **summary: Any,
    ) -> Path:
        run = tmp_path / name
        (run / "attempt_1").mkdir(parents=True)
        (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records(steps)))
        made = {"trainer": {"experiment_name": experiment}, "seed": seed, **(config or {})}
        (run / "config.yaml").write_text(yaml.safe_dump(made))
        fields = {"seed": seed, "status": "finished", "steps": steps, "seconds": 60.0, **summary}
        (run / "summary.json").write_text(json.dumps(fields))
        for step, lines in (validation or {}).items():
            (run / "validation").mkdir(exist_ok=True)
            (run / "validation" / f"{step}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for each in samples or []:
            SampleFiles(run / "samples").write(each.step, [each], math.inf)
        return run

    return make
