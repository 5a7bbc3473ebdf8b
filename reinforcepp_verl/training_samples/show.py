"""Samples as text: a few lines between the rows of the console, and more for `reinforcepp samples`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from rich.cells import cell_len

from reinforcepp_verl.common.terminal import printable
from reinforcepp_verl.training_samples.record import Answer, PromptSample

LONGEST_TEXT = 1000
"""Characters of a prompt or an answer that `reinforcepp samples` prints without --full."""
BAR = "  | "


def summary_lines(sample: PromptSample, width: int) -> list[str]:
    """Return a prompt with its best and its worst answer, each on one line of at most `width` characters."""
    sampled = [answer for answer in sample.answers if not answer.greedy]
    if not sampled:
        return []
    shown = {"best": sampled[0], "worst": sampled[-1]} if len(sampled) > 1 else {"answer": sampled[0]}
    rows = [("prompt", sample.prompt), *((f"{name} {_number(a.reward)}", a.text) for name, a in shown.items())]
    indent = max(len(name) for name, _ in rows) + 2
    return [f"  {name:<{indent}}{one_line(text, width - indent - 2)}" for name, text in rows]


def one_line(text: str, width: int) -> str:
    r"""Return a text with line ends as \n and control characters shown; the middle of a long one is left out."""
    shown = printable(text.replace("\n", "\\n").replace("\t", " "))
    if cell_len(shown) <= width:
        return shown
    # Where there are characters of two cells, all are taken for such.
    kept = max(2, width - 5 if cell_len(shown) == len(shown) else (width - 5) // 2)
    return f"{shown[: kept - kept // 2]} ... {shown[len(shown) - kept // 2 :]}"


def chosen_answers(
    samples: Sequence[PromptSample], wanted: Callable[[Answer], bool], limit: int
) -> list[tuple[PromptSample, list[Answer]]]:
    """Return the first `limit` answers that are `wanted`, with their prompts."""
    chosen = []
    for sample in samples:
        answers = [answer for answer in sample.answers if wanted(answer)][:limit]
        limit -= len(answers)
        if answers:
            chosen.append((sample, answers))
    return chosen


def full_lines(sample: PromptSample, answers: Sequence[Answer], *, full: bool) -> Iterator[str]:
    """Yield a prompt and some of its answers, with their numbers."""
    about = [f"{sample.sampled} answers", f"reward {_number(sample.mean_reward)} ± {_number(sample.reward_std)}"]
    about += [one_line(sample.data_source, 80)] if sample.data_source else []
    about += [f"ground truth {one_line(sample.ground_truth, 80)}"] if sample.ground_truth else []
    yield f"step {sample.step}: {', '.join(about)}"
    yield from _indented(sample.prompt, full)
    for answer in answers:
        yield f"{_name(answer)}: {', '.join(_facts(answer))}"
        for number, row in enumerate(answer.rows):
            if number:
                yield f"row {number + 1}, after:"
                yield from _indented(row.prompt or sample.prompt, full)
                yield "the model:"
            yield from _indented(row.text, full)


def _name(answer: Answer) -> str:
    return "greedy answer" if answer.greedy else f"answer {answer.session + 1}"


def _facts(answer: Answer) -> Iterator[str]:
    yield f"reward {_number(answer.reward)}"
    if answer.dropped:
        yield "dropped from the training"
    if answer.advantage is not None:
        yield f"advantage {answer.advantage:+.3g}"
    if answer.kl is not None:
        yield f"KL {answer.kl:.3g}"
    yield f"{answer.length} tokens"
    yield answer.end
    if answer.error:
        yield f"not scored: {one_line(answer.error, 200)}"
    yield from (f"{one_line(name, 80)} {_number(number)}" for name, number in answer.parts.items())
    yield from (f"{one_line(name, 80)} {one_line(text, 80)}" for name, text in answer.texts.items())


def _indented(text: str, full: bool) -> Iterator[str]:
    if not full and len(text) > LONGEST_TEXT:
        half = LONGEST_TEXT // 2
        text = f"{text[:half]}[... {len(text) - LONGEST_TEXT} characters: --full ...]{text[-half:]}"
    # Not splitlines(): a form feed or U+2028 is shown, not obeyed.
    yield from (f"{BAR}{line}" for line in re.split(r"\r?\n", text))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
