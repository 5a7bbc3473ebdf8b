"""The reward functions in docs/rewards.md and docs/process_rewards.md score the steps that they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reinforcepp_verl.rewards.failures import SafeRewardFunction
from reinforcepp_verl.tasks.small_tokenizer import of_characters

DOCS = Path(__file__).parents[2] / "docs"
TOKENIZER = of_characters("01=+\n")


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("rewards.md", "1=1\n0\n+0", {3: 1.0, 5: 0.0, 7: 0.0}),
        ("rewards.md", "1+0", {2: 0.0}),
        ("process_rewards.md", "1=1\n+0\n1", {3: 4.0, 6: 7.0}),
        ("process_rewards.md", "1", None),
    ],
)
def test_the_function_of_a_page_scores_steps(page, text, expected):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    [block] = [block for block in blocks if "step_scores" in block]
    namespace = {"judge": lambda text: float(len(text))}
    exec(block, namespace)
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    score = SafeRewardFunction(namespace["compute_score"], 0.0, tokenizer=TOKENIZER).wrapped()
    row = score(data_source="", solution_str=text, ground_truth="0", extra_info={"response_ids": ids})
    assert row["reward_error"] == 0.0, row
    assert row.get("token_scores") == (list(expected.items()) if expected else None)
