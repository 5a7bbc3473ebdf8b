"""Suites: every shipped one can be trained; a wrong one says what is wrong."""

from __future__ import annotations

import pytest

from reinforcepp_verl.cli.train import method_names
from reinforcepp_verl.comparison import suite as suites
from reinforcepp_verl.config import search_path
from reinforcepp_verl.preflight import examine

CELLS = [(name, method) for name in suites.names() for method in suites.load(name).file.methods]


@pytest.mark.parametrize(("name", "method"), CELLS, ids=["-".join(cell) for cell in CELLS])
def test_every_cell_of_a_shipped_suite_passes_the_checks(compose, arithmetic, monkeypatch, name, method):
    monkeypatch.chdir(arithmetic)
    suite = suites.load(name)
    config = compose(*suite.overrides_of(method), "seed=1")
    elsewhere = suite.file.cluster != "cpu"
    found = examine(config, files_may_be_missing=True, other_machine=elsewhere)
    assert not found.errors


def kl_coefficient(config) -> float | None:
    if config.algorithm.use_kl_in_reward:
        return config.algorithm.kl_ctrl.kl_coef
    return config.actor_rollout_ref.actor.kl_loss_coef if config.actor_rollout_ref.actor.use_kl_loss else None


@pytest.mark.parametrize("name", sorted(set(suites.names()) - {"kl_sweep"}))
def test_methods_are_compared_with_the_same_coefficient_of_the_kl(compose, name):
    suite = suites.load(name)
    found = {method: kl_coefficient(compose(*suite.overrides_of(method))) for method in suite.file.methods}
    assert len(set(found.values()) - {None}) == 1, found


@pytest.mark.parametrize("name", suites.names())
def test_a_shipped_suite_names_what_exists(name):
    file = suites.load(name).file
    assert file.recipe in search_path.recipe_names()
    assert all(overrides or method in method_names() for method, overrides in file.methods.items())
    assert file.seeds >= 5 and file.question.endswith("?")


def test_a_methods_overrides_come_before_those_of_the_suite_and_the_steps_last(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "question: Q?\nrecipe: math_rlvr/arithmetic\nsteps: 7\noverrides: [a=1]\nreference: grpo\n"
        "methods: {grpo: [], other: [+method=ppo, b=2]}\n"
    )
    suite = suites.load(str(file))
    assert suite.name == "mine"
    end = ["a=1", "trainer.total_training_steps=7"]
    start = ["+recipe=math_rlvr/arithmetic", "cluster=cpu"]
    assert suite.overrides_of("grpo") == [*start, "+method=grpo", *end]
    assert suite.overrides_of("other") == [*start, "+method=ppo", "b=2", *end]


WRONG = {
    "steps: many": "steps",
    "stepz: 1": "stepz",
    "methods: [grpo]": "methods",
    "reference: none": "reference is none; set it to one of grpo",
    "steps: 0": "steps and seeds must be at least 1",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_key_or_value_is_named(tmp_path, line):
    lines = {"question": "Q?", "recipe": "r", "steps": "1", "reference": "grpo", "methods": "{grpo: []}"}
    key, _, value = line.partition(": ")
    file = tmp_path / "wrong.yaml"
    file.write_text("".join(f"{name}: {text}\n" for name, text in (lines | {key: value}).items()))
    with pytest.raises(ValueError, match="wrong.yaml") as error:
        suites.load(str(file))
    assert WRONG[line] in str(error.value) and "\n" not in str(error.value)


def test_a_missing_key_is_named(tmp_path):
    file = tmp_path / "short.yaml"
    file.write_text("question: Q?\n")
    with pytest.raises(ValueError, match="recipe"):
        suites.load(str(file))


def test_a_file_with_the_name_of_a_shipped_suite_is_refused(tmp_path):
    file = tmp_path / "arithmetic.yaml"
    file.write_text("question: Q?\nrecipe: r\nsteps: 1\nreference: grpo\nmethods: {grpo: []}\n")
    with pytest.raises(ValueError, match="has the name of a shipped suite.*rename it"):
        suites.load(str(file))
    assert suites.load(str(search_path.config_dir() / "suite" / "arithmetic.yaml")) == suites.load("arithmetic")


def test_an_unknown_suite_lists_those_that_are_shipped():
    with pytest.raises(ValueError, match="arithmetic"):
        suites.load("arithmetics")
