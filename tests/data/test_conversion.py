"""Answers, single rows and their errors, duplicates and overlap."""

from __future__ import annotations

import pytest

from reinforcepp_verl.data import answers, prompt_templates
from reinforcepp_verl.data.conversion import Conversion
from reinforcepp_verl.data.loading import Split
from reinforcepp_verl.data.overlap import RowFilter, normalize, question_key
from reinforcepp_verl.data.rows import UnusableRowError
from reinforcepp_verl.data.sources import SOURCES


def convert(name: str, *raw: dict) -> tuple[list[dict], Conversion]:
    conversion = Conversion(SOURCES[name], "train", prompt_templates.find("bare"))
    return list(conversion.rows(Split("some.jsonl", table=raw))), conversion


def reasons(name: str, *raw: dict) -> dict[str, int]:
    return dict(convert(name, *raw)[1].unusable)


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("48-5=<<48-5=43>>43\n#### 43", "43"),
        ("#### 1\nNo:\n####  -1,234,567 ", "-1234567"),
        ("####12.50", "12.50"),
        ("#### ", ""),
    ],
)
def test_answer_after_the_last_hashes(solution, answer):
    assert answers.after_hashes(solution) == answer


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"so $x = \boxed{\frac{3}{4}}$.", r"\frac{3}{4}"),
        (r"$\boxed{1}$, or rather $\boxed{ 2 }$", "2"),
        (r"$\boxed{\left\{1, 2\right\}}$", r"\left\{1, 2\right\}"),
        (r"$\boxed{\left\{ x \right.}$ {", r"\left\{ x \right."),
        (r"$\boxed{\begin{pmatrix} 1 \\ 2 \\\end{pmatrix}}$", r"\begin{pmatrix} 1 \\ 2 \\\end{pmatrix}"),
        (r"It is $\boxed 3$.", "3"),
        (r"It is $\fbox{C}$.", "C"),
        (r"$\boxed {7}$", "7"),
        (r"$\boxedfoo{1} \boxed{}$", ""),
    ],
)
def test_last_box(solution, answer):
    assert answers.last_boxed(solution) == answer


@pytest.mark.parametrize(
    ("extract", "text", "reason"),
    [
        (answers.after_hashes, "The answer is 43.", "no #### in the answer"),
        (answers.last_boxed, "The answer is 43.", r"no \\boxed in the answer"),
        (answers.last_boxed, r"\boxed{1} \boxed{\frac{1}{2}", r"the last \\boxed is not closed"),
        (answers.integer, "12.5", "the answer is not an integer"),
        (answers.integer, "", "the answer is not an integer"),
    ],
)
def test_answer_that_cannot_be_found(extract, text, reason):
    with pytest.raises(UnusableRowError, match=reason):
        extract(text)


@pytest.mark.parametrize(("text", "answer"), [("033", "33"), ("0", "0"), (" 540^\\circ", "540"), ("5^{\\circ}", "5")])
def test_aime_answers_are_plain_integers(text, answer):
    assert answers.integer(text) == answer


@pytest.mark.parametrize(
    ("kind", "examples"),
    [
        ("integer", ["43", "-4", "+7", "1,234", r"1,\!234", "$12$", " 5 "]),
        ("fraction", ["3/4", "-1 / 2", r"\frac{3}{4}", r"-\dfrac{10}{3}", r"\frac12", r"\tfrac 1 2"]),
        ("decimal", ["0.5", ".5", "-1,234.5", "2."]),
        ("text", [r"\text{Tuesday}", "east", "John and Mary", r"\mathrm{A}", "C", "Monday."]),
        (
            "expression",
            ["x^2 + 2x + 1", r"\frac{x}{2}", r"2\sqrt{3}", "(1, 2)", "1:30", "3 cm", r"\text{(A)} 3", "50\\%"],
        ),
    ],
)
def test_kind_of_an_answer(kind, examples):
    assert [answers.kind(example) for example in examples] == [kind] * len(examples)


def test_row_has_verls_columns_and_the_question_as_it_was():
    rows, _ = convert("gsm8k", {"question": " How many? ", "answer": "2+2=<<2+2=4>>4\n#### 4"})
    assert rows == [
        {
            "data_source": "openai/gsm8k",
            "prompt": [{"role": "user", "content": "How many?"}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "4"},
            "extra_info": {"split": "train", "index": 0, "question": "How many?"},
        }
    ]


def test_answers_that_are_numbers_are_taken():
    rows, _ = convert("math500", {"problem": "q", "answer": 7}, {"problem": "q", "answer": 0.5})
    assert [row["reward_model"]["ground_truth"] for row in rows] == ["7", "0.5"]


def test_rows_that_cannot_be_used_are_left_out_and_counted():
    good = {"question": "q", "answer": "#### 1"}
    bad = [
        {"question": "q", "answer": "#### "},
        {"question": " ", "answer": "#### 1"},
        {"question": "q", "answer": None},
        {"question": ["q"], "answer": "#### 1"},
        {"question": "q", "answer": "one"},
        {"question": "q"},
    ]
    rows, conversion = convert("gsm8k", good, *bad, good)
    assert [row["extra_info"]["index"] for row in rows] == [0, 7]
    assert conversion.unusable == {
        "empty answer": 2,
        "empty question": 1,
        "question is not text": 1,
        "no #### in the answer": 1,
        "the row has no answer": 1,
    }


def test_a_nested_value_is_named_by_its_path():
    good = {"prompt": [{"role": "user", "content": "q"}], "reward_model": {"ground_truth": "1"}}
    assert reasons("dapo_math_17k", good | {"reward_model": {"answer": "1"}}) == {"reward_model has no ground_truth": 1}
    assert reasons("dapo_math_17k", good | {"prompt": []}) == {"prompt has no 0": 1}
    assert reasons("dapo_math_17k", good | {"prompt": "q"}) == {"prompt has no 0": 1}


def test_too_many_unusable_rows_are_refused_with_the_first_of_them():
    raw = [{"question": "q", "answer": "#### 1"}] * 2 + [{"question": "q", "answer": "one"}]
    _, conversion = convert("gsm8k", *raw)
    conversion.check(Split("some.jsonl"), 0.334)
    with pytest.raises(ValueError) as caught:
        conversion.check(Split("some.jsonl"), 0.01)
    assert str(caught.value) == (
        "gsm8k: 1 of 3 rows of some.jsonl are unusable (1 × no #### in the answer), more than the limit of 1.0%. The "
        'first is row 2: {"question": "q", "answer": "one"}. Correct the source, '
        "or allow more with --max-unusable 0.334"
    )


def test_source_without_a_single_usable_row_is_refused_whatever_the_limit():
    _, conversion = convert("gsm8k", {"question": "q" * 400, "answer": "one"})
    with pytest.raises(ValueError, match=r"1 of 1 rows .*q…\. Correct the source$"):
        conversion.check(Split("some.jsonl"), 1.0)
    with pytest.raises(ValueError, match=r"^gsm8k: some.jsonl has no rows; give another --source"):
        convert("gsm8k")[1].check(Split("some.jsonl"), 1.0)


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        (
            "gsm8k",
            {"question": "q", "answers": "#### 1"},
            "gsm8k: some.jsonl has no column answer (did you mean answers?); gsm8k needs question and answer, "
            "and the source has question, answers. Rename the column, or give another --source. "
            'Its first row: {"question": "q", "answers": "#### 1"}',
        ),
        ("math", {"problem": "q", "answer": "1"}, "math: some.jsonl has no column solution"),
        ("dapo_math_17k", {"prompt": "q", "solution": "1"}, "has no column reward_model; dapo_math_17k needs"),
        ("preferences", {"prompt": "q", "chosen": "a"}, "has no column rejected; preferences needs chosen and"),
    ],
)
def test_missing_column_is_explained(name, raw, message):
    with pytest.raises(ValueError) as caught:
        convert(name, raw)
    assert message in str(caught.value)


def chat(*texts: str) -> list[dict[str, str]]:
    return [{"content": text, "role": ("user", "assistant")[i % 2]} for i, text in enumerate(texts)]


@pytest.mark.parametrize(
    "raw",
    [
        {"chosen": chat("q", "good"), "rejected": chat("q", "bad")},
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"prompt": chat("q"), "chosen": chat("q", "good")[1:], "rejected": chat("q", "bad")[1:]},
        {"prompt": "anything", "chosen": chat("q", "good"), "rejected": chat("q", "bad")},
    ],
)
def test_pairs_are_complete_chats_or_answers_to_a_prompt(raw):
    rows, _ = convert("preferences", raw)
    assert rows == [
        {
            "data_source": "hendrydong/preference_700K",
            "prompt": [{"role": "user", "content": "q"}],
            "ability": "preference",
            "reward_model": {"style": "model", "ground_truth": ""},
            "extra_info": {"split": "train", "index": 0, "question": "q"},
            "chosen": [{"role": "assistant", "content": "good"}],
            "rejected": [{"role": "assistant", "content": "bad"}],
        }
    ]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"chosen": chat("q", "a"), "rejected": chat("p", "b")}, "chosen and rejected answer different prompts"),
        ({"chosen": chat("q", "a"), "rejected": chat("q", "a")}, "chosen and rejected are the same"),
        ({"chosen": chat("q", "a", "b"), "rejected": chat("q", "a", "c")}, "the last message is not the assistant's"),
        ({"chosen": "a", "rejected": "b"}, "the row has no prompt"),
        ({"chosen": [], "rejected": "b"}, "chosen is not a chat"),
        ({"chosen": " ", "rejected": "b", "prompt": "q"}, "empty message in chosen"),
        ({"chosen": [{"role": "assistant"}], "rejected": "b", "prompt": "q"}, "the row has no content"),
    ],
)
def test_invalid_pair(raw, reason):
    assert reasons("preferences", raw) == {reason: 1}


def row(question: str, truth: str = "1", **more) -> dict:
    return {"extra_info": {"question": question}, "reward_model": {"ground_truth": truth}, **more}


def test_questions_are_the_same_up_to_case_space_and_unicode_form():
    same = ("Find $x + 1$.", "find\n$x+1$. ", "Find $x\u00a0+\u00a01$.", "ｆind $x+1$.")
    assert len({normalize(text) for text in same}) == 1
    assert normalize("Find $x+1$.") != normalize("Find $x-1$.")


def test_row_filter_passes_the_first_of_equal_questions_and_counts_other_answers():
    row_filter = RowFilter()
    rows = [row("a"), row("A "), row("b"), row("a", "2")]
    assert list(row_filter.rows(rows)) == [rows[0], rows[2]]
    assert (row_filter.duplicates, row_filter.disagreeing, row_filter.overlap) == (2, 1, 0)
    assert row_filter.questions == {question_key(row("a")), question_key(row("b"))}


def test_row_filter_leaves_an_evaluation_complete():
    row_filter = RowFilter(drop_duplicates=False)
    assert len(list(row_filter.rows([row("a"), row("a")]))) == 2
    assert row_filter.duplicates == 1


@pytest.mark.parametrize(("keep", "left"), [(False, ["b"]), (True, ["a", "b"])])
def test_row_filter_removes_questions_of_other_sets_unless_overlap_is_allowed(keep, left):
    row_filter = RowFilter(frozenset({question_key(row("a"))}), keep_overlap=keep)
    assert [passed["extra_info"]["question"] for passed in row_filter.rows([row("a"), row("b"), row("a")])] == left
    assert (row_filter.overlap, row_filter.duplicates, row_filter.first_overlap) == (1, 1, "a")


def test_one_prompt_may_have_several_pairs():
    row_filter = RowFilter()
    pairs = [row("q", "", chosen=chat("", a), rejected=chat("", b)) for a, b in ("xy", "xz", "xy")]
    assert list(row_filter.rows(pairs)) == pairs[:2]
    assert row_filter.duplicates == 1
