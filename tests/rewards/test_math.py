"""The reward of a mathematical answer: what is right, what is wrong, what is penalized, and always the same keys."""

import numpy as np
import pytest

from reinforcepp_verl.config.math_reward_options import MathRewardOptions
from reinforcepp_verl.rewards.expressions import VerifyResult, compare_expressions
from reinforcepp_verl.rewards.math import compute_score

SOURCE = "math"


def acc(answer, truth):
    result = compute_score(SOURCE, rf"so \boxed{{{answer}}}.", truth)
    assert list(result) == ["score", "acc", "pred", "format", "error"]
    assert result["score"] == result["acc"]
    return result["acc"]


# From the expectations that math-verify publishes: huggingface/Math-Verify@5d148cf tests/test_all.py,
# test_numina_cases.py, test_open_thoughts.py; the answers are put in a box. Excluded: answers without a box, and
# several boxes in one text, of which only the last is an answer here.
@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [
        ("(0,9)", "[0,9)", 0),
        (r"(1, +\infty)", r"(1, +\infty)", 1),
        ("(1,3)", "{1,3}", 1),
        ("(11,7)or(7,11)", r"(7,11),\ (11,7)", 1),
        ("(2, 2), (1, 3), (3, 3)", "(2, 2), (1, 3), (3, 3)", 1),
        ("(3,1)", "{1,3}", 0),
        ("(5, 8), (8, 5)", r"(x, y) = (5, 8) \quad \text{and} \quad (8, 5)", 1),
        ("(6,31,-1)", "(6,31,-1)", 1),
        (r"(\tfrac{27}{8},\tfrac{15}{8})", "(0, 0)", 0),
        ("(p,q)=(3,2)", "(3, 2)", 1),
        ("(p,q)=(3,2)", "(3,2)", 1),
        ("(p,q,r)=(3,2,7)", "(3,2,7)", 1),
        ("-10/9", r"-\frac{10}{9}", 1),
        ("-12;-11;-10;-8;-7;-6", r"\{-12, -11, -10, -8, -7, -6\}", 1),
        ("-793 < a < 10", "(-793, 10)", 1),
        ("0.4", ".4", 1),
        ("0<f(x)<1", "(0,1)", 1),
        (r"1 - \frac{1}{\mathrm{e}}", r"1 - \frac{1}{\mathrm{e}}", 1),
        (r"1 \pm \sqrt{19}", r"1 \pm \sqrt{19}", 1),
        ("1", "-[0,1)", 0),
        ("1", r"\frac3{3}", 1),
        ("1", "k=1", 1),
        ("1/3", r"\cfrac{1}{3}", 1),
        ("1/3", r"\dfrac{1}{3}", 1),
        ("1/3", r"\frac13", 1),
        ("1/3", r"\frac{1}{3} \textbf{meters}", 1),
        ("1/3", r"\frac{1}{3} \text{meters}", 1),
        ("1/3", r"\frac{1}{3}", 1),
        ("1/3", r"\left( \frac{1}{3} \right)", 1),
        ("1/3", r"\tfrac{1}{3}", 1),
        ("1/3", r"k = \frac{1}{3}", 1),
        ("1/3", r"x=1/3\approx1.3", 1),
        ("10/9", r"\frac{10}{9}", 1),
        ("1000", "1 000", 1),
        ("1000", "1000.0", 1),
        ("1000.0", "1,000.0", 1),
        ("1000.99", "1,000.99", 1),
        ("11", "x=11", 1),
        ("11", r"x\approx11", 1),
        ("1112112_3", "1112122_3", 0),
        ("12:00", "1:00", 0),
        ("14916", "14{,}916", 1),
        (r"15\mbox{ cm}^2", r"15\mbox{ cm}^2", 1),
        ("16386.16", "16386.16", 1),
        ("16386.17", r"\$16386.17", 1),
        ("19, 46, and 82", r"19, 46, \text{ and } 82", 1),
        ("19, 46, and 82", "21, 36, and 82", 0),
        (r"2 \sin b \cos a", r"2 \sin b \cos a", 1),
        (r"28\%", "28 %", 1),
        (r"28\%", "28 pct", 1),
        (r"28\%", "28 percent", 1),
        (r"28\%", "28 percentage", 1),
        (r"28\%", "28", 1),
        ("2x + z = 1", "1", 0),
        ("2x+4y-3=0", r"y=-\frac{1}{2}x+\frac{3}{4}", 1),
        ("4", r"4\sqrt{2}", 0),
        ("7 = 11a+c", "11a+c", 0),
        ("7425000", "7,425,000", 1),
        ("A:B=1", "1", 1),
        ("AB=4,CD=5", "4, 5", 1),
        ("D = (0, 1)", "D = (0, 1.5)", 0),
        ("S_{MBCN}:S=7:32", "7:32", 1),
        ("V_{1}:V_{2}=11:21", "11:21", 1),
        ("[-3,2]", r"(-\infty, -3] \cup [2, \infty)", 0),
        ("[-4,0]", "[-4, 0]", 1),
        ("[0,9)", "[0,1)", 0),
        (r"\(\boxed{6 \text{ and } 8}\)", "6,8", 1),
        (r"\(\boxed{\text{C}}\).", r"\text{(C)}", 1),
        (r"\boxed{a=4,\,-8,\,-10}", "-10,-8,4", 1),
        (r"\boxed{x = -5,\ p = \frac{14}{3}} ", r"-5, \frac{14}{3}", 1),
        (r"\frac{14}{3}", r"\frac{14}{3}", 1),
        (r"\frac{3}{56}", r"\frac{3}{56}", 1),
        (r"\frac{9}{4}\pi", r"\frac94\pi", 1),
        (r"\frac{NO}{BO}=\frac{1}{\sqrt{6}}", r"\frac{1}{\sqrt{6}}", 1),
        (r"\frac{\pi r}{h+r}", r"\frac{\pi r}{h+r}", 1),
        (r"\pm 2021", "2021", 0),
        (r"\pm 2021", "{-2021, 2021}", 1),
        (r"\sqrt{2}+\sqrt{5}", r"\sqrt 2+\sqrt 5", 1),
        (r"\sqrt{3}", r"\sqrt3", 1),
        (r"\text{Evelyn}", r"\text{Evelyn}", 1),
        (r"\text{Even}", "Even", 1),
        (r"\text{E}", "E", 1),
        (r"\text{e}", "e", 1),
        (r"\text{odd}", "odd", 1),
        (r"\{1\pm\sqrt{5},-2\}", r"\{1\pm\sqrt{5},-2\}", 1),
        ("a +3z = 0", "0", 0),
        ("a^2 + b = 0", "0", 0),
        ("a_3 = 2, a_{37} = 19", r"a_{37} = 19, \quad a_3 = 2", 1),
        ("d", r"\text{E}", 0),
        ("f(x)=1", "1", 1),
        ("k=1", "1", 1),
        ("n=2, 3, 4", "n=1, 2, 3", 0),
        ("p=5,q=2;p=7,q=2", "(5,2),(7,2)", 1),
        ("x < 1", "-x > -1", 1),
        ("x < 1", "x > -1", 0),
        ("x <= 1", "-x >= -1", 1),
        ("x = 1/3", r"x = 5+5+1 = 1/3 \approx 11", 1),
        ("x = 11", "x = 5+5+1 = 7 =11", 1),
        (r"x \geq 5", r"5 \leq x", 1),
        (r"x \leq 5", r"5 \geq x", 1),
        ("x-2y+z-1=0", "x-2y+z-1=0", 1),
        ("x^2/4 + y^2/3 = 1", "x^2/16 + y^2/12 = 1/4", 1),
        ("z = 1 + 1 = 2", "z = 3+3 = 2", 1),
        ("|AB|=1", "1", 1),
    ],
)
def test_published_expectations_of_math_verify(truth, answer, expected):
    assert acc(answer, truth) == expected


@pytest.mark.parametrize(
    ("truth", "answer"),
    [
        ("12", "012"),
        ("12", "12."),
        ("12", r"12\text{ apples}"),
        ("12", r"\$12"),
        ("12", r"\text{12}"),
        ("1234", "1,234"),
        ("1234567", r"1\,234\,567"),
        ("3/4", "0.75"),
        (r"\frac{3}{4}", "75\\%"),
        (r"\dfrac{3}{4}", "6/8"),
        (r"\frac{1}{3}", "0.333333"),
        ("-7", "−7"),
        ("1e3", "1000"),
        (r"\sqrt{2}", "1.41421356"),
        ("B", r"\text{(B)}"),
        ("Monday", r"\text{monday}"),
        ("undefined", r"\text{undefined}"),
        ("x^2-1", "(x-1)(x+1)"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ \frac{4}{2} \end{pmatrix}"),
        (r"2^{100}", "1267650600228229401496703205376"),
        ("#### 12", "12"),
        ("#### 12 dollars", "12"),
        (r"#### \sqrt{2}", r"\sqrt{2}"),
        (r"first \boxed{3}, then \boxed{12}", "12"),
        (r"Thus $x = \boxed{12}$.", "12"),
        ("5", r"5\text{ cm}"),
        (r"5\text{ cm}", "5"),
        ("5", "5 dollars"),
        ("5 dollars", "5"),
        ("5", r"5\text{ cm}^2"),
        (r"5\text{ minutes}", r"5\text{ Minute}"),
        (r"5\text{ cm}^{2}", r"5 \text{cm}^2"),
        ("3:30", r"3:30\text{ p.m.}"),
        (r"60^\circ", r"60^\circ \text{N}"),
        (r"2\sqrt{3}", r"2\sqrt{3}\text{ cm}"),
        ("6, 8", r"6 \text{ and } 8"),
        ("5", "x = 5"),
        ("10", r"10\%"),
        ("No", r"\text{no}"),
    ],
)
def test_right_answers(truth, answer):
    assert acc(answer, truth) == 1.0


SCALES = ["million", "billion", "thousand", "dozen", "hundred", "K"]
SCALES += ["or more", "squared", "half", "and a half", "(mod 7)"]
# math-verify 0.9.0 calls several of these equal.
NEVER_RIGHT = [
    ("12", "1 2"),
    ("3", "1 2"),
    ("11", r"5 \quad 6"),
    ("12", "1, 2"),
    ("5", "5, 6"),
    ("5", r"5 \text{ or } 6"),
    ("5", r"\pm 5"),
    ("5", "-5"),
    ("5", "55"),
    ("5", "x > 5"),
    ("5", r"x \neq 5"),
    ("6", "5 = 6"),
    ("6", "7 = 5 + 1"),
    ("10", "10_2"),
    ("10_2", "10_3"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", r"\{1,2\}"),
    ("[1,2]", "(1,2)"),
    ("32349", "32, 349"),
    (r"\text{no}", r"\text{on}"),
    ("listen", "silent"),
    ("nan", "ann"),
    ("0", "nan"),
    ("0", r"\text{NaN}"),
    ("1", r"\frac{1}{0}"),
    (r"\infty", r"-\infty"),
    ("0", "0.0000001"),
    ("0.00000001", "0.00000002"),
    ("0", "10^{-20}"),
    ("1", r"\frac{99999999}{100000000}"),
    ("100000000", "100000001"),
    (r"\frac{1}{3}", "0.33"),
    (r"\pi", "3.14"),
    ("2", "the answer is 2 or 3"),
    ("5", "print(5)"),
    ("5", "__import__('os')._exit(0)"),
    ("True", "False"),
    ("12", ""),
    ("", ""),
    ("", "5"),
    ("None", "none of these"),
    ("0", r"\emptyset"),
    ("x=1", "y=2"),
    *(("5", rf"5\text{{ {words}}}") for words in SCALES),
    *(("5", f"5 {words}") for words in SCALES),
    ("5", r"5 \pmod{7}"),
    ("5", r"5 (\text{mod } 7)"),
    ("5", r"5\ldots"),
    (r"5\text{ million}", "5"),
    (r"5\text{ million}", r"5\text{ billion}"),
    (r"5\text{ cm}", r"5\text{ m}"),
    (r"5\text{ cm}^2", r"5\text{ cm}^3"),
    (r"5\text{ minutes}", r"5\text{ hours}"),
    ("3", r"3\text{ feet } 5\text{ inches}"),
    (r"3\text{ feet } 6\text{ inches}", r"3\text{ feet } 5\text{ inches}"),
    ("2", r"2 \text{ hours } 30 \text{ minutes}"),
    ("12", r"12 \text{ dollars and } 50 \text{ cents}"),
    (r"3:30\text{ p.m.}", r"3:30\text{ a.m.}"),
    (r"60^\circ \text{S}", r"60^\circ \text{N}"),
    ("no", "on"),
    ("No", "On"),
]


def test_the_last_of_several_boxes_of_a_ground_truth_counts():
    truth = r"first \boxed{3}, then \boxed{12}"
    assert [acc(answer, truth) for answer in ("12", "3", "3, 12")] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(("truth", "answer"), NEVER_RIGHT)
def test_wrong_answers(truth, answer):
    assert acc(answer, truth) == 0.0


@pytest.mark.parametrize(
    ("solution", "error"),
    [
        ("I do not know", "no answer"),
        (r"\boxed{}", "no answer"),
        (rf"\boxed{{{'9' * 2000}}}", "answer too large: length"),
        (rf"\boxed{{x{'9' * 500}}}", "answer too large: digits"),
        (rf"\boxed{{{'(' * 60}5{')' * 60}}}", "answer too large: nesting"),
        (r"\boxed{10^{1000000}}", "answer too large: exponent"),
        (r"\boxed{\dfrac{5^{(5^{(5^{(5^5)})}-4)}-5}{16}}", "answer too large: exponent"),
        (r"\boxed{2^{3^{4^5}}}", "answer too large: exponent"),
        (r"\boxed{9**9**9**9}", "answer too large: exponent"),
        (rf"\boxed{{x{'^' * 900}}}", "answer too large: exponent"),
        (r"\boxed{99999999!}", "answer too large: factorial"),
        (r"\boxed{((9!)!)!}", "answer too large: factorial"),
        (r"\boxed{\binom{999999999}{499999999}}", "answer too large: factorial"),
    ],
)
def test_reports_why_an_answer_was_not_compared(solution, error):
    result = compute_score(SOURCE, solution, "7")
    assert (result["score"], result["acc"], result["error"]) == (0.0, 0.0, error)
    assert isinstance(result["pred"], str)


def test_a_ground_truth_with_more_digits_than_python_writes():
    result = compute_score(SOURCE, r"\boxed{7}", 10**5000)
    assert (result["acc"], result["error"]) == (0.0, "ground truth too large: length")


def test_integers_that_python_does_not_parse_are_compared():
    long = {"max_answer_chars": 10_000}
    assert compute_score(SOURCE, rf"\boxed{{0{'7' * 5000}}}", "7" * 5000, **long)["acc"] == 1
    assert compute_score(SOURCE, rf"\boxed{{{'7' * 5000}}}", "7" * 4999 + "8", **long)["acc"] == 0


def test_an_exception_of_math_verify_makes_the_answer_wrong():
    assert compare_expressions("5", r"5 \mod 7") == VerifyResult(False, "not parsed")


@pytest.mark.parametrize("answer", [r"2^{2^{10}}", "x^{n^2+100}", r"2^5 \cdot 3^4 \cdot 5^3", "10^{100}", "20!", "5!!"])
def test_ordinary_powers_are_compared(answer):
    result = compute_score(SOURCE, rf"\boxed{{{answer}}}", "7")
    assert (result["acc"], result["error"]) == (0.0, "")


def test_a_hung_comparison_costs_its_limit():
    slow = r"\sum_{k=1}^{9999} \sum_{j=1}^{9999} \sin(k j)^{j}"
    result = compute_score(SOURCE, rf"\boxed{{{slow}}}", "7", time_limit_s=0.2)
    assert (result["acc"], result["error"]) == (0.0, "timeout")
    assert compute_score(SOURCE, r"\boxed{3+4}", "7")["acc"] == 1.0


@pytest.mark.parametrize(
    ("solution", "options", "score"),
    [
        (r"\boxed{7}", {"score_scale": "plus_minus_one"}, 1.0),
        (r"\boxed{8}", {"score_scale": "plus_minus_one"}, -1.0),
        ("nothing", {"score_scale": "plus_minus_one"}, -1.0),
        (r"\boxed{7}", {"format_reward": 0.5}, 1.5),
        (r"\boxed{8}", {"format_reward": 0.5}, 0.5),
        ("#### 7", {"format_reward": 0.5}, 1.5),
        (r"\boxed{}", {"format_reward": 0.5}, 0.0),
        (r"\boxed{\quad}", {"format_reward": 0.5}, 0.0),
        ("it is 7", {"last_number": True, "format_reward": 0.5}, 1.0),
        ("it is 7", {}, 0.0),
    ],
)
def test_scales_and_formats(solution, options, score):
    assert compute_score(SOURCE, solution, "7", **options)["score"] == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "tokens", "limits", "score"),
    [
        (7, 9, (19, 10), 1.0),
        (7, 9, (10, 5), 1 - 4 / 5),
        (7, 9, (9, 4), 0.0),
        (7, 99, (9, 4), 0.0),
        (8, 99, (9, 4), -1.0),
    ],
)
def test_the_overlong_penalty_grows_over_its_buffer_of_tokens(answer, tokens, limits, score):
    options = dict(zip(("overlong_max_tokens", "overlong_buffer_tokens"), limits, strict=True))
    result = compute_score(SOURCE, rf"\boxed{{{answer}}}", "7", {"response_tokens": tokens}, **options)
    assert result["score"] == pytest.approx(score)
    halved = compute_score(
        SOURCE, rf"\boxed{{{answer}}}", "7", {"response_tokens": tokens}, overlong_penalty_factor=0.5, **options
    )
    assert halved["score"] == pytest.approx((result["acc"] + score) / 2)


@pytest.mark.parametrize(
    ("penalty", "truncated", "score"), [(0.25, True, 0.25), (0.25, False, 1.0), (0.0, True, 0.0), (-0.5, True, -0.5)]
)
def test_penalty_of_a_truncated_answer(penalty, truncated, score):
    result = compute_score(SOURCE, r"\boxed{7}", "7", {"truncated": truncated}, truncated_penalty=penalty)
    assert (result["score"], result["acc"]) == (score, 1.0)


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"overlong_max_tokens": 9, "overlong_buffer_tokens": 4}, "response_tokens"),
        ({"truncated_penalty": 0}, "truncated"),
    ],
)
def test_a_penalty_without_the_fact_it_needs_is_an_error(options, fact):
    with pytest.raises(ValueError, match=rf"needs extra_info\['{fact}'\].*reward_manager.name=reinforcepp"):
        compute_score(SOURCE, r"\boxed{7}", "7", {"index": 3}, **options)


@pytest.mark.parametrize(
    ("truths", "acc", "error"),
    [
        (["7", "8"], 1.0, ""),
        (["8", "7"], 1.0, ""),
        (["8", "9"], 0.0, ""),
        ([r"\frac{1", "8"], 0.0, "ground truth not parsed"),
        ([r"\frac{1", "7"], 1.0, ""),
        ([], 0.0, "no ground truth"),
        (("8", "7"), 1.0, ""),
        (np.array(["8", "7"]), 1.0, ""),
        (np.array(7), 1.0, ""),
        (None, 0.0, "no ground truth"),
        ([None], 0.0, "no ground truth"),
        (r"\boxed{}", 0.0, "no ground truth"),
        ("9" * 2000, 0.0, "ground truth too large: length"),
        (r"\frac{1", 0.0, "ground truth not parsed"),
    ],
)
def test_any_of_several_ground_truths_is_accepted(truths, acc, error):
    result = compute_score(SOURCE, r"\boxed{7}", truths)
    assert (result["acc"], result["error"]) == (acc, error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_scal": 1}, "reward_kwargs.score_scal is not an option. The options are: score_scale, format_reward"),
        ({"score_scale": "both"}, "zero_one, plus_minus_one"),
        ({"time_limit_s": 0}, "time_limit_s is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"overlong_max_tokens": 10}, "overlong_buffer_tokens is 0"),
        ({"overlong_max_tokens": 10, "overlong_buffer_tokens": 11}, "at most that"),
        ({"truncated_penalty": 2}, "at most 1"),
        ({"max_exponent": -1}, "max_exponent"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        compute_score(SOURCE, r"\boxed{7}", "7", **options)


def test_every_option_has_a_default():
    assert MathRewardOptions.from_mapping({}) == MathRewardOptions()


def test_accepts_the_arguments_of_verls_reward_manager():
    result = compute_score(
        data_source=SOURCE,
        solution_str=r"\boxed{120}",
        ground_truth=120,
        extra_info={"index": 3, "num_turns": 2, "rollout_reward_scores": {}},
        reward_router_address="localhost:1",
        reward_model_tokenizer=None,
    )
    assert result == {"score": 1.0, "acc": 1.0, "pred": "120", "format": 1.0, "error": ""}
    assert {type(value) for value in result.values()} == {float, str}


def test_verl_loads_it_by_its_pkg_path():
    pytest.importorskip("verl")
    from omegaconf import OmegaConf
    from verl.trainer.ppo.reward import get_custom_reward_fn

    path = "pkg://reinforcepp_verl.rewards.math"
    kwargs = {"score_scale": "plus_minus_one"}
    function = {"path": path, "name": "compute_score", "reward_kwargs": kwargs}
    score = get_custom_reward_fn(OmegaConf.create({"reward": {"custom_reward_function": function}}))
    assert score(data_source=SOURCE, solution_str=r"\boxed{8}", ground_truth="7", extra_info={})["score"] == -1.0
