"""The answer is the last box that closes, the number after ####, or, if requested, the last number; in linear time."""

import pytest

from reinforcepp_verl.rewards.extraction import extract_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{5}.", "5"),
        (r"\boxed{1} no, \boxed{2}", "2"),
        (r"\boxed{\frac{3}{4}}", r"\frac{3}{4}"),
        (r"\fbox{7}", "7"),
        (r"\boxed {7}", "7"),
        (r"\\boxed{7}", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{x \in \{1\} \cup [0, 7)}", r"x \in \{1\} \cup [0, 7)"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{ \fbox{\boxed{5}} }", "5"),
        (r"\boxed{\boxed{5} or \boxed{6}}", r"\boxed{5} or \boxed{6}"),
        (r"\boxed{5} and then \boxed{6", "5"),
        (r"\boxed{6 and \boxed{5}", "5"),
        (r"{ } } \boxed{5} } {", "5"),
        (r"\boxed{}", ""),
        ("\\boxed{\n8\n}", "8"),
        (r"\boxed{3} #### 4", "3"),
        (r"\boxed 5", "5"),
        (r"so $\boxed 5$.", "5"),
        (r"\boxed \frac{1}{2}.", r"\frac{1}{2}"),
        (r"\boxed{1}, \boxed{2} and \boxed{3}", "1, 2, 3"),
        (r"$\boxed{1}$ or $\boxed{2}$", "1, 2"),
        (r"$x=\boxed{1}$ and $x=\boxed{2}$", "1, 2"),
        (r"\boxed{k = 45} \quad \text{and} \quad \boxed{n = 2}", "k = 45, n = 2"),
        (r"\boxed{1} papers and \boxed{2} bins", "1, 2"),
        (r"first \boxed{1}. Then \boxed{2} and \boxed{3}", "2, 3"),
        (r"\boxed{1}. So \boxed{2}", "2"),
        (r"\boxed{1}, so the answer is \boxed{2}", "2"),
        (r"<think>\boxed{1}</think> \boxed{2}", "2"),
        (r"$\boxed\frac12$", r"\frac12"),
        (r"\boxed5", "5"),
        (r"\boxed\text{yes}", r"\text{yes}"),
        (r"\framebox{5}", "5"),
        (r"\boxed{A} or maybe \boxed{B}", "A, B"),
        (r"\boxed{A}, alternatively \boxed{B}", "A, B"),
        ("- \\boxed{3}\n- \\boxed{4}", "3, 4"),
        (r"\boxed{A} / \boxed{B}", "A, B"),
        (r"\boxed{x} = \boxed{4}", "x = 4"),
        (r"\boxed{5}, not \boxed{6}", "5"),
        (r"\boxed{5} (rather than $\boxed{6}$)", "5"),
        (r"\boxed{5} but also \boxed{6}", "5, 6"),
        (r"\boxed{5}, but it could be \boxed{6}", "5, 6"),
        (r"\boxed{5}, but the answer is \boxed{6}", "6"),
    ],
)
def test_boxes(text, answer):
    found = extract_answer(text)
    assert (found.text, found.form, found.formatted) == (answer, "boxed", True)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### 12", "12"),
        ("####12", "12"),
        ("#### 3\nno:\n#### 12 apples", "12"),
        ("#### 12 apples and 5 pears", "12 apples and 5 pears"),
        ("#### $1,234.50", "1234.50"),
        ("#### -7", "-7"),
        ("#### −7", "-7"),
        ("#### -$7", "-7"),
        ("#### The answer is 12.", "12"),
        ("#### 3/4", "3/4"),
        ("#### 1,2", "1,2"),
        ("#### .5", ".5"),
        ("#### 1 000", "1000"),
        ("#### 1 000.", "1000"),
        ("#### 1,000", "1000"),
        ("#### 12 dollars", "12 dollars"),
        ("#### 12%", "12%"),
        (r"#### 12\%", r"12\%"),
        ("#### 12.", "12"),
        (r"#### \$12", "12"),
        ("#### $12$", "12"),
        ("#### US$12", "12"),
        ("#### **12**", "12"),
        (r"#### \(12\)", "12"),
        ("#### x = 12", "12"),
        ("#### 12 (3 x 4)", "12"),
        ("#### 12 cm^2", "12 cm^2"),
        ("#### 12 apples a day", "12"),
        ("#### 5 million", "5 million"),
        ("#### 5 or 6", "5 or 6"),
        ("#### 5, 6", "5, 6"),
        (r"#### 5 \pi", r"5 \pi"),
        (r"#### 5 \pm 1", r"5 \pm 1"),
        ("#### 3 x 5", "3 x 5"),
        ("#### 5 feet 3 inches", "5 feet 3 inches"),
        ("#### at least 5", "at least 5"),
        ("#### > 5\n", "> 5"),
        ("#### 12\n13", "12"),
    ],
)
def test_hashes(text, answer):
    found = extract_answer(text)
    assert (found.text, found.form, found.formatted) == (answer, "hashes", True)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Final Answer: The final answer is $28 \\%$. I hope it is correct.", "$28 \\%$"),
        (r"\boxed{200} so The final answer is $10,455$. I hope it is correct. Bye \boxed{3}", "$10,455$"),
        ("The final answer is: 7. I hope it is correct", "7"),
        ("The final answer is 1. I hope it is correct. The final answer is 2. I hope it is correct.", "2"),
    ],
)
def test_minervas_format(text, answer):
    assert extract_answer(text) == (answer, "line")


def test_minervas_format_is_one_line():
    assert extract_answer("The final answer is\n7\nI hope it is correct") == ("", "none")


@pytest.mark.parametrize(
    "after",
    [
        *("10^3", "3*4", "3 * 4", "2x", "5!", "1 1/2", "1_000", "3:45", "3+4", "x-7", "(3, 4)", r"2\pi", "x2"),
        *(r"\sqrt{2}", r"\frac{1}{2}", r"2\sqrt{3}", "7 - 4 = 3", "yes"),
    ],
)
def test_an_expression_after_hashes_is_whole(after):
    assert extract_answer(f"1 #### {after}", last_number=True) == (after, "hashes")


@pytest.mark.parametrize(("text", "answer"), [("10-3", "3"), ("3 is -7.", "-7"), ("it costs $1,200", "1200")])
def test_the_last_number_counts_only_if_asked_for(text, answer):
    assert extract_answer(text) == ("", "none")
    found = extract_answer(text, last_number=True)
    assert (found.text, found.form, found.formatted) == (answer, "number", False)


@pytest.mark.parametrize(
    "text", ["", "no number", "####", "#### none of these is right\nat all", r"\boxed{5", "boxed{5}", r"\boxed"]
)
def test_nothing_to_find(text):
    assert extract_answer(text) == ("", "none")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: 5", "5"),
        ("so it is.\nAnswer: $\\frac{1}{2}$\n", "$\\frac{1}{2}$"),
        ("**Answer:** 5", "5"),
        ("**Final Answer**: **5**", "5"),
        ("The final answer is: 5", "5"),
        ("Answer: 4\nAnswer: 5", "5"),
        ("答案\nAnswer：5", "5"),
        ("ANSWER: (C)", "(C)"),
        ("Answer:\n5", "5"),
        ("**Answer:**\n\n5 apples\n", "5 apples"),
    ],
)
def test_answer_lines(text, answer):
    found = extract_answer(text)
    assert (found.text, found.form, found.formatted) == (answer, "line", True)


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        (r"<think>\boxed{1}</think> 2", r"\boxed{1}", ""),
        (r"<think> a \boxed{1}", r"\boxed{1}", ""),
        (r"\boxed{1}</think> \boxed{2}", r"\boxed{2}", r"\boxed{2}"),
        (r"\boxed{1}</think> 2", r"\boxed{1}", ""),
        (r"<think>a</think>\boxed{1}<think>\boxed{2}", r"\boxed{2}", r"\boxed{1}"),
        (r"\boxed{1}", r"\boxed{1}", r"\boxed{1}"),
    ],
)
def test_thinking_is_skipped_unless_it_counts(text, thinking, answer):
    assert extract_answer(text) == extract_answer(answer)
    assert extract_answer(text, skip_thinking=False) == extract_answer(thinking)


def test_only_the_end_is_searched():
    assert extract_answer(r"\boxed{5}" + "x" * 20, searched_chars=10).form == "none"
    assert extract_answer("x" * 20 + r"\boxed{5}", searched_chars=10).text == "5"


@pytest.mark.parametrize(
    "piece", ["{", "}", "\\boxed{", "\\", "#", "1", "1,", "1 ", "a", "\\boxed{}", "####1", "-$", " ", "1/", "{}", "1e"]
)
@pytest.mark.parametrize("searched_chars", [16_000, 10**6])
@pytest.mark.timeout(60)
def test_the_time_is_linear_in_the_length(piece, searched_chars):
    """For a million characters, quadratic time would exceed the timeout."""
    extract_answer(piece * (10**6 // len(piece)), last_number=True, searched_chars=searched_chars)
