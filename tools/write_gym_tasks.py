"""Writes the tables of docs/reasoning_gym.md: every task of the package, with an example.

python tools/write_gym_tasks.py                                 # after the package has changed
python tools/write_gym_tasks.py --check --tasks chain_sum,lcm   # exit 1 if the lines of these tasks differ
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

from reinforcepp_verl.tasks import gym_task
from reinforcepp_verl.tasks.gym_questions import Drawn

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reasoning_gym.md"
BEGIN, END = "<!-- written by tools/write_gym_tasks.py -->\n", "<!-- end -->\n"
QUESTIONS = 10
SHORT_QUESTION, SHORT_ANSWER = 200, 20
SHOWN_QUESTION, SHOWN_ANSWER = 90, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--tasks", default="all", help="with --check, only these")
    arguments = parser.parse_args()
    drawn = gym_task.draw_all(gym_task.request(arguments.tasks, size=QUESTIONS - 1, val_size=1))
    page = PAGE.read_text(encoding="utf-8")
    if arguments.check:
        wrong = [line for line in (_line(task, found) for task, found in drawn.items()) if line not in page]
        sys.exit(f"not in {PAGE.name}: run {sys.argv[0]}\n{''.join(wrong)}" if wrong else 0)
    head, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}{_tables(drawn)}{END}{rest.partition(END)[2]}", encoding="utf-8")


def _tables(drawn: dict[str, Drawn]) -> str:
    short = {task: found for task, found in drawn.items() if _is_short(found)}
    others = {task: found for task, found in drawn.items() if task not in short}
    return f"""
{QUESTIONS} questions of each task at its default settings, seed 1: characters of the median question, without the
template, and of the longest answer; and one example.

### Short tasks

For small models: the median question has at most {SHORT_QUESTION} characters, the longest answer {SHORT_ANSWER}.

{_table(short)}
### Other tasks

{_table(others)}
"""


def _table(drawn: dict[str, Drawn]) -> str:
    head = "| task | category | question | answer | example |\n|---|---|---|---|---|\n"
    return head + "".join(_line(task, found) for task, found in drawn.items())


def _line(task: str, found: Drawn) -> str:
    (example, *_), (question, answer) = found.val, _lengths(found)
    shown = f"{_cell(example.text, SHOWN_QUESTION)} → {_cell(example.answer, SHOWN_ANSWER) if example.answer else '–'}"
    return f"| `{task}` | {found.category} | {question:,} | {answer:,} | {shown} |\n"


def _is_short(found: Drawn) -> bool:
    question, answer = _lengths(found)
    return question <= SHORT_QUESTION and 0 < answer <= SHORT_ANSWER


def _lengths(found: Drawn) -> tuple[int, int]:
    """Return the characters of the median question and of the longest answer."""
    both = found.val + found.train
    return int(median(len(question.text) for question in both)), max(len(question.answer) for question in both)


def _cell(text: str, limit: int) -> str:
    """Return a text as code in a table cell, on one line and cut off."""
    line = " ".join(text.split())
    line = line if len(line) <= limit else f"{line[: limit - 1]}…"
    return f"`` {line.replace('|', '¦')} ``"


if __name__ == "__main__":
    main()
