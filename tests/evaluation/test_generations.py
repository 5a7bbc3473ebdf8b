"""Reading generations: verl's own dump and plain files, how samples become questions, and what is refused."""

from __future__ import annotations

import json

import pytest

from reinforcepp_verl.evaluation.generations import read_generations

PLAIN = {"data_source": "math", "question": "1+1", "ground_truth": "2", "acc": 1.0, "pred": "2"}
DUMP = {"input": "user\n1+1", "output": "It is 2", "gts": "2", "score": 1.0, "step": 10, "reward": 1.0, "acc": 1.0}


def write(path, *lines, tail=""):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
    return path


def only(generations):
    (source,) = generations.data_sources
    return source


def samples(source):
    return {question.text: [sample.correct for sample in question.samples] for question in source.questions}


def test_plain_lines_are_grouped_by_source_question_and_truth(tmp_path):
    lines = [
        PLAIN,
        {**PLAIN, "acc": 0, "pred": "3"},
        {**PLAIN, "question": "2+2", "acc": True},
        {**PLAIN, "data_source": "aime", "acc": False},
        {**PLAIN, "acc": 1},
    ]
    aime, math = read_generations(write(tmp_path / "a.jsonl", *lines)).data_sources
    assert (aime.name, samples(aime)) == ("aime", {"1+1": [False]})
    assert (math.name, samples(math)) == ("math", {"1+1": [True, False, True], "2+2": [True]})
    assert math.correct == [[True, False, True], [True]]
    assert math.answers == [["2", "3", "2"], ["2"]]
    assert math.samples == (1, 3)


def test_same_question_with_another_truth_is_another_question(tmp_path):
    source = only(read_generations(write(tmp_path / "a.jsonl", PLAIN, {**PLAIN, "ground_truth": ["2", "two"]})))
    assert len(source.questions) == 2


def test_questions_are_sorted_whatever_the_order_of_the_lines(tmp_path):
    lines = [{**PLAIN, "question": text} for text in ("c", "a", "b", "a")]
    forward = read_generations(write(tmp_path / "f.jsonl", *lines))
    backward = read_generations(write(tmp_path / "b.jsonl", *reversed(lines)))
    assert only(forward) == only(backward)


def test_verls_own_writer_is_read(tmp_path):
    """verl's code writes the file: this reader relies on its keys and its uid."""
    base = pytest.importorskip("verl.trainer.ppo.v1.trainer_base")
    writer = next(c for c in vars(base).values() if isinstance(c, type) and hasattr(c, "_write_generations"))
    extra = {"reward": [1.0, 0.0, 0.0], "acc": [1.0, 0.0, None], "pred": ["2", "5", None]}
    writer._write_generations(
        inputs=["user\n1+1"] * 2 + ["user\n2+2"],
        outputs=["2", "5", "\u2028?"],
        gts=["2", "2", "4"],
        scores=[1.0, -1.0, -1.0],
        reward_extra_infos_dict=extra | {"uid": ["p-1_0_0", "p-1_1_0", "p-2_0_0"]},
        dump_path=str(tmp_path),
        global_steps=40,
    )
    generations = read_generations(tmp_path / "40.jsonl")
    source = only(generations)
    assert (generations.step, source.name) == (40, "unknown")
    assert samples(source) == {"user\n1+1": [True, False], "user\n2+2": [False]}
    assert source.answers == [["2", "5"], [""]]
    assert source.ungraded == 1


def test_verls_uid_decides_which_samples_belong_together(tmp_path):
    """Two questions with images may have the same text, and an agent's sessions may differ in theirs."""
    lines = [{**DUMP, "uid": "a_0_0"}, {**DUMP, "uid": "a_1_0", "input": "longer"}, {**DUMP, "uid": "b_0_0"}]
    source = only(read_generations(write(tmp_path / "1.jsonl", *lines)))
    assert [(question.text, len(question.samples)) for question in source.questions] == [
        (DUMP["input"], 2),
        (DUMP["input"], 1),
    ]


def test_the_last_output_of_a_session_counts(tmp_path):
    lines = [
        {**DUMP, "uid": "a_0_1", "acc": 0.0},
        {**DUMP, "uid": "a_0_10", "acc": 1.0},
        {**DUMP, "uid": "a_0_2", "acc": 0.0},
    ]
    assert only(read_generations(write(tmp_path / "1.jsonl", *lines))).correct == [[True]]


def test_another_format_of_uid_is_ignored(tmp_path):
    lines = [{**PLAIN, "uid": "x1"}, {**PLAIN, "uid": "x2"}]
    assert only(read_generations(write(tmp_path / "a.jsonl", *lines))).samples == (2, 2)


@pytest.mark.parametrize(
    ("grade", "expected"),
    [({"acc": 1}, True), ({"acc": True, "score": 0}, True), ({"correct": False, "score": 1}, False)]
    + [({"score": 1.0}, True), ({"score": -1}, False), ({"score": 0}, False), ({"acc": None, "score": 1}, False)],
)
def test_acc_before_correct_before_score(tmp_path, grade, expected):
    assert only(read_generations(write(tmp_path / "a.jsonl", {"input": "q", **grade}))).correct == [[expected]]


@pytest.mark.parametrize(("answer", "expected"), [({"pred": " 7 ", "answer": "8"}, "7"), ({"answer": 7}, "7")])
def test_pred_before_answer(tmp_path, answer, expected):
    source = only(read_generations(write(tmp_path / "a.jsonl", {"question": "q", "acc": 1, **answer})))
    assert source.answers == [[expected]]


def test_a_file_without_answers_has_none(tmp_path):
    assert only(read_generations(write(tmp_path / "a.jsonl", {"question": "q", "acc": 1}))).answers is None


def test_refusal_counts_the_questions_that_are_short(tmp_path):
    lines = [PLAIN] * 4 + [{**PLAIN, "question": "2+2"}] * 2
    source = only(read_generations(write(tmp_path / "a.jsonl", *lines)))
    assert source.too_few_samples(2) is None
    assert source.too_few_samples(4) == "k=4 refused: 1 of 2 questions have fewer samples (fewest: 2)"


def without(key):
    return {name: value for name, value in PLAIN.items() if name != key}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"question": "x', "not valid JSON"),
        (b'{"question": "\xff"}', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "not a JSON object"),
        (without("question"), "no question, which the first line has"),
        (without("acc"), "no acc, which the first line has"),
        (without("pred"), "no pred, which the first line has"),
        (without("data_source"), "no data_source, which the first line has"),
        (without("ground_truth"), "no ground_truth, which the first line has"),
        ({**PLAIN, "question": 3}, "question is 3, not text"),
        ({**PLAIN, "data_source": None}, "data_source is None, not text"),
        ({**PLAIN, "acc": 0.5}, "acc is 0.5: it must be 1 \\(correct\\), or 0 or -1 \\(wrong\\)"),
        ({**PLAIN, "acc": float("nan")}, "acc is nan: it must be 1"),
        ({**PLAIN, "acc": "yes"}, "acc is 'yes': it must be 1"),
        ({**PLAIN, "acc": [1]}, r"acc is \[1\]: it must be 1"),
        ({**PLAIN, "pred": ["2"]}, r"pred is \['2'\], neither text nor a number"),
        ({**PLAIN, "pred": True}, "pred is True, neither text nor a number"),
    ],
)
def test_malformed_line_names_file_line_and_what_is_wrong(tmp_path, line, reason):
    text = line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
    path = write(tmp_path / "a.jsonl", PLAIN)
    path.write_bytes(path.read_bytes() + b"\n" + text + b"\n")
    with pytest.raises(ValueError, match=rf"a\.jsonl, line 3: {reason}") as error:
        read_generations(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"acc": 1}, "no question or input"),
        ({"input": "q", "pred": "2"}, "no acc or correct or score"),
        ({"input": "q", "score": 0.25}, 'score is 0.25: .*; let the reward return "acc" as well'),
    ],
)
def test_first_line_must_have_the_required_keys(tmp_path, line, reason):
    with pytest.raises(ValueError, match=rf"a\.jsonl, line 1: {reason}"):
        read_generations(write(tmp_path / "a.jsonl", line))


@pytest.mark.parametrize(
    ("uid", "reason"),
    [("a_0_0", "the same as in an earlier line"), ("other", "not PROMPT_SESSION_OUTPUT"), (4, "not text")],
)
def test_uid_must_be_new_and_of_the_first_lines_form(tmp_path, uid, reason):
    with pytest.raises(ValueError, match=f"line 2: uid is .*{reason}"):
        read_generations(write(tmp_path / "a.jsonl", {**DUMP, "uid": "a_0_0"}, {**DUMP, "uid": uid}))


def test_empty_file(tmp_path):
    with pytest.raises(ValueError, match=r"a\.jsonl: the file is empty"):
        read_generations(write(tmp_path / "a.jsonl", tail="\n\n"))
