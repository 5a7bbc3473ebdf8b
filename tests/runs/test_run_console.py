"""The console warns once when prompts reach the length to which verl cuts them."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from reinforcepp_verl.runs.run_console import LONGEST_PROMPT, RunConsole


@pytest.mark.parametrize(("cut_at", "warnings"), [(16, 1), (17, 0), (math.inf, 0)])
def test_cut_prompts_are_reported_once(cut_at, warnings):
    shown = io.StringIO()
    screen = RunConsole(Console(file=shown, width=300), total_steps=3, cut_at=cut_at)
    screen.show({"step": 0})
    for step in (1, 2):
        screen.show({"step": step, LONGEST_PROMPT: 16.0, "prompt_length/clip_ratio": 1.0})
    assert shown.getvalue().count("warning: prompts have 16 tokens, the limit data.max_prompt_length") == warnings
