"""The table of results, what is left to train, and the page that is made of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from reinforcepp_verl.comparison import inputs, outcome, page, schedule, statistics, table
from reinforcepp_verl.comparison import suite as suites
from reinforcepp_verl.comparison.cells import OF_TIME_AND_MEMORY, Cell
from reinforcepp_verl.comparison.suite import load
from reinforcepp_verl.comparison.table import Origin

STEPS = np.array([0, 20, 40])


def add_cell(
    folder, method: str, seed: int, accuracy: list[float], overrides: str | None = None, inputs: str | None = None
) -> None:
    cell = Cell(suites.load("arithmetic"), method, seed)
    made_with = ("verl 0.9.1", "2 cores", "2026-01-01")
    origin = Origin(overrides or " ".join(cell.overrides), inputs or cell.inputs, *made_with)
    training = np.arange(1, 41)
    curves = {
        "accuracy": (STEPS, np.array(accuracy)),
        "reward": (training, np.linspace(0.4, 0.8, 40)),
        "length": (training, np.full(40, 2.5)),
        "kl": (training, np.linspace(0.0, 0.2, 40)),
        "step_s": (training, np.full(40, 1.5)),
        "update_s": (training, np.full(40, 0.5)),
        "tokens": (training, np.full(40, 1000.0)),
        "memory_gb": (np.array([40]), np.array([4.0])),
    }
    table.add(folder, "arithmetic", table.cell_rows("arithmetic", method, seed, origin, curves))


def test_the_order_in_which_cells_finish_leaves_no_trace(tmp_path):
    cells = [("grpo", 1, [0.4, 0.5, 0.6]), ("reinforcepp", 2, [0.4, 0.6, 0.7]), ("reinforcepp", 1, [0.4, 0.6, 0.8])]
    for folder, order in ((tmp_path / "a", cells), (tmp_path / "b", cells[::-1])):
        for cell in order:
            add_cell(folder, *cell)
    assert (tmp_path / "a/arithmetic.parquet").read_bytes() == (tmp_path / "b/arithmetic.parquet").read_bytes()


def test_a_cell_that_is_trained_again_replaces_its_rows(tmp_path):
    add_cell(tmp_path, "grpo", 1, [0.1, 0.1, 0.1])
    add_cell(tmp_path, "grpo", 2, [0.2, 0.2, 0.2])
    add_cell(tmp_path, "grpo", 1, [0.3, 0.3, 0.3])
    rows = table.read(tmp_path, "arithmetic")
    assert outcome.curve(rows, "grpo", "accuracy").to_numpy().tolist() == [[0.3, 0.2]] * 3


def test_only_what_the_table_lacks_is_planned_seed_by_seed(tmp_path):
    suite = suites.load("arithmetic")
    add_cell(tmp_path, "grpo", 1, [0.4, 0.5, 0.6])
    plan = schedule.plan(suite, ["reinforcepp", "grpo"], [1, 2], tmp_path)
    assert [(cell.method, cell.seed) for cell in plan.todo] == [("reinforcepp", 1), ("reinforcepp", 2), ("grpo", 2)]
    assert plan.done == 1


def test_cells_with_other_settings_are_not_mixed_in(tmp_path):
    add_cell(tmp_path, "grpo", 1, [0.4, 0.5, 0.6], overrides="+recipe=another")
    with pytest.raises(ValueError, match="has cells with other settings, such as grpo seed 1"):
        schedule.plan(suites.load("arithmetic"), ["grpo"], [1], tmp_path)


def test_settings_that_have_changed_are_refused_whatever_is_asked_for(tmp_path):
    add_cell(tmp_path, "grpo", 4, [0.4, 0.5, 0.6], overrides="+recipe=another")
    with pytest.raises(ValueError, match="has cells with other settings, such as grpo seed 4"):
        schedule.plan(suites.load("arithmetic"), ["rloo"], [1], tmp_path)


def test_cells_of_another_model_are_neither_mixed_in_nor_taken(tmp_path):
    add_cell(tmp_path, "grpo", 1, [0.4, 0.5, 0.6], inputs="another")
    suite = suites.load("arithmetic")
    with pytest.raises(
        ValueError,
        match="has cells from other data or another model, such as grpo seed 1; prepare the task with the versions",
    ):
        schedule.plan(suite, ["grpo"], [1, 2], tmp_path)
    assert schedule.plan(suite, ["grpo"], [1], tmp_path).todo == []
    cell = Cell(suites.load("noisy_reward"), "grpo", 1)
    assert schedule.take([cell], tmp_path) == [cell]


def test_inputs_are_the_files_that_the_settings_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ("+recipe=math_rlvr/arithmetic", "cluster=cpu")

    def digest(*more):
        for cache in (inputs.digest, inputs._checksum):
            cache.cache_clear()
        return inputs.digest((*overrides, *more))

    (tmp_path / "data/arithmetic/model").mkdir(parents=True)
    nothing = digest()
    (tmp_path / "data/arithmetic/model/weights").write_bytes(b"1")
    first = digest()
    (tmp_path / "data/arithmetic/train.parquet").write_bytes(b"2")
    with_data = digest()
    (tmp_path / "data/arithmetic/model/weights").write_bytes(b"3")
    now = digest()
    assert len({nothing, first, with_data, now, digest("data.train_files=[a,b]"), digest("+method=ppo")}) == 6
    (tmp_path / "data/arithmetic/model/.cache").mkdir()
    (tmp_path / "data/arithmetic/model/.cache/time").write_text("1")
    assert now == digest() == digest("seed=2", "+method=grpo")


def test_overrides_that_are_no_configuration_are_named(tmp_path):
    file = tmp_path / "mine.yaml"
    for override in ("data.nosuch=1", "a=["):
        head = "question: Q?\nrecipe: math_rlvr/arithmetic\nsteps: 1\nreference: grpo\n"
        file.write_text(f"{head}methods: {{grpo: ['{override}']}}\n")
        with pytest.raises(ValueError, match=r"correct the suite's file$") as error:
            Cell(load(str(file)), "grpo", 1).inputs  # noqa: B018
        assert override in str(error.value) and "\n" not in str(error.value)


def test_a_cell_that_another_suite_has_is_taken_and_no_other(tmp_path):
    for method, seed in (("reinforcepp", 1), ("grpo", 1), ("ppo", 1)):
        add_cell(tmp_path, method, seed, [0.4, 0.5, 0.6])
    suite = suites.load("noisy_reward")
    todo = schedule.plan(suite, list(suite.file.methods), [1, 2], tmp_path).todo
    left = schedule.take(todo, tmp_path)
    rows = table.read(tmp_path, "noisy_reward")
    assert set(table.finished(rows)) == {("reinforcepp", 1), ("grpo", 1)} and set(rows.suite) == {"noisy_reward"}
    assert "reward" in set(rows.metric) and not set(rows.metric) & set(OF_TIME_AND_MEMORY)
    assert len(left) == len(todo) - 2 and ("grpo", 2) in [(cell.method, cell.seed) for cell in left]
    assert schedule.plan(suite, list(suite.file.methods), [1, 2], tmp_path).todo == left


def test_a_cell_is_taken_under_the_name_that_the_suite_has_for_it(tmp_path):
    add_cell(tmp_path, "reinforcepp_baseline", 3, [0.4, 0.5, 0.6])
    suite = suites.load("kl_sweep")
    assert schedule.take([Cell(suite, "loss_0.001", 3), Cell(suite, "loss_1", 3)], tmp_path) == [
        Cell(suite, "loss_1", 3)
    ]
    assert set(table.finished(table.read(tmp_path, "kl_sweep"))) == {("loss_0.001", 3)}


def test_cells_without_what_the_suite_measures_are_neither_taken_nor_done(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "question: Q?\nrecipe: math_rlvr/arithmetic\nsteps: 40\noverrides: [trainer.test_freq=10]\nreference: grpo\n"
        "measure: quality\nmethods: {grpo: []}\n"
    )
    suite, results = load(str(file)), tmp_path / "results"
    add_cell(results, "grpo", 1, [0.4, 0.5, 0.6])
    assert Cell(suite, "grpo", 1).overrides == Cell(load("arithmetic"), "grpo", 1).overrides
    assert schedule.take([Cell(suite, "grpo", 1)], results) == [Cell(suite, "grpo", 1)]
    (results / "arithmetic.parquet").rename(results / "mine.parquet")
    with pytest.raises(ValueError, match=r"mine\.parquet has no quality, which the suite measures now; move the file"):
        schedule.plan(suite, ["grpo"], [1], results)


def test_tables_that_are_of_no_suite_are_left_alone(tmp_path):
    add_cell(tmp_path, "grpo", 1, [0.4, 0.5, 0.6])
    (tmp_path / "summary.parquet").write_bytes(b"something else")
    suite = load("noisy_reward")
    assert schedule.take([Cell(suite, "grpo", 1)], tmp_path) == []
    assert "## arithmetic" in page.write(tmp_path, tmp_path / "results.md")[0].read_text()


def test_a_method_that_the_suite_lacks_is_named(tmp_path):
    with pytest.raises(ValueError, match="has no method grpoo: it has reinforcepp"):
        schedule.plan(suites.load("arithmetic"), ["grpoo"], [1], tmp_path)


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "arithmetic.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"arithmetic\.parquet cannot be read"):
        table.read(tmp_path, "arithmetic")


def test_two_commands_do_not_write_one_table(tmp_path):
    suite = suites.load("arithmetic")
    with schedule.only_writer(tmp_path, suite), pytest.raises(ValueError, match="another command is comparing"):
        with schedule.only_writer(tmp_path, suite):
            pass


def test_statistics_of_known_values():
    values, reference = np.array([0.5, 0.6, 0.7, 0.8, 0.9]), np.array([0.4, 0.5, 0.6, 0.7, 0.8])
    assert statistics.paired_p_value(values, reference) == pytest.approx(2 / 2**5)
    assert statistics.paired_p_value(values, values) == 1.0
    assert statistics.probability_of_improvement(values, reference) == pytest.approx((5 + 4 + 3 + 2 + 1 + 4 * 0.5) / 25)
    assert statistics.interquartile_mean(np.array([0.0, 1, 2, 3, 4, 5, 6, 100])) == 3.5
    found = statistics.interval(values)
    assert found.mean == pytest.approx(0.7) and 0.55 < found.low < 0.7 < found.high < 0.85
    assert statistics.interval(np.array([0.5])) == statistics.Interval(0.5, 0.5, 0.5)


def test_the_outcome_of_a_method(tmp_path):
    for seed in range(1, 6):
        add_cell(tmp_path, "reinforcepp", seed, [0.4, 0.5, 0.6 + seed / 100])
        add_cell(tmp_path, "grpo", seed, [0.4, 0.7, 0.8 + seed / 100])
    rows = table.read(tmp_path, "arithmetic")
    file = suites.load("arithmetic").file
    grpo = outcome.of_method(rows, "grpo", file)
    assert grpo.final.mean == pytest.approx(0.83) and grpo.over_training.mean == pytest.approx((0.7 + 0.83) / 2)
    assert grpo.versus.difference.mean == pytest.approx(0.2) and grpo.versus.improvement == 1.0
    assert grpo.versus.p_value == pytest.approx(2 / 2**5)
    assert grpo.kl == pytest.approx(0.2 * 34.5 / 39) and grpo.step_s == 1.5 and grpo.update_s == 0.5
    assert grpo.seconds_to_threshold == pytest.approx(20 * 1.5) and grpo.tokens_to_threshold == 20_000
    reference = outcome.of_method(rows, "reinforcepp", file)
    assert reference.seconds_to_threshold is None and reference.versus is None


def test_the_page_has_a_row_for_every_method_best_first(tmp_path):
    for seed in (1, 2):
        add_cell(tmp_path, "reinforcepp", seed, [0.4, 0.5, 0.6])
        add_cell(tmp_path, "grpo", seed, [0.4, 0.7, 0.8])
    written = page.write(tmp_path, tmp_path / "docs" / "results.md")
    assert [path.name for path in written] == ["results.md", "results_arithmetic.png"]
    text = written[0].read_text()
    assert text.index("| `grpo` | 2 | 0.800") < text.index("| `reinforcepp` | 2 | 0.600")
    assert "**Not finished**: 41 of 45 trainings are missing." in text
    assert "2 cores" in text and "verl 0.9.1" in text
    not_run = text[text.index("## Not run") :]
    assert "| `kl_sweep` |" in not_run and "| `arithmetic` |" not in not_run
    assert page.write(tmp_path, tmp_path / "docs" / "results.md") == written and written[0].read_text() == text


@pytest.mark.parametrize("cells", [[("grpo", 1)], [("grpo", 1), ("reinforcepp", 1)], [("grpo", 1), ("reinforcepp", 2)]])
def test_a_comparison_that_has_only_begun_is_shown(tmp_path, cells):
    for method, seed in cells:
        add_cell(tmp_path, method, seed, [0.4, 0.5, 0.6])
    text = page.write(tmp_path, tmp_path / "results.md")[0].read_text()
    compared = {seed for method, seed in cells if method == "reinforcepp"} & {1}
    row = next(line for line in text.splitlines() if line.startswith("| `grpo`"))
    assert ("| - | - | - |" in row) == (not compared)


def test_what_was_seen_is_shown_beside_what_others_say(tmp_path, monkeypatch):
    add_cell(tmp_path, "reinforcepp", 1, [0.4, 0.5, 0.6])
    suite = suites.load("arithmetic")
    said = replace(suite, file=replace(suite.file, paper="All are equal.", seen="One is not."))
    monkeypatch.setattr(suites, "load", lambda name: said if name == "arithmetic" else load(name))
    text = page.write(tmp_path, tmp_path / "results.md")[0].read_text()
    assert "| [arithmetic](#arithmetic) | All are equal. | One is not. |" in text and "cannot show" in text
    said = replace(suite, file=replace(suite.file, paper="All are equal.", seen=""))
    assert "What others say" not in page.markdown(tmp_path, "results")


def test_a_suite_can_measure_what_its_reward_function_returns(tmp_path):
    suite = suites.load("length_bias")
    curves = {
        "quality": (np.array([0, 8, 16, 24]), np.array([0.5, 0.75, 0.6, 0.2])),
        "reward": (np.arange(1, 25), np.linspace(-1, 4, 24)),
        "length": (np.arange(1, 25), np.linspace(5, 15, 24)),
        "kl": (np.arange(1, 25), np.linspace(0, 1, 24)),
        "step_s": (np.arange(1, 25), np.full(24, 2.0)),
        "update_s": (np.arange(1, 25), np.full(24, 0.5)),
        "tokens": (np.arange(1, 25), np.full(24, 2000.0)),
        "memory_gb": (np.array([24]), np.array([8.0])),
    }
    cell = Cell(suite, "reinforcepp", 1)
    origin = Origin(" ".join(cell.overrides), cell.inputs, "verl 0.9.1", "2 cores", "2026-01-01")
    table.add(tmp_path, "length_bias", table.cell_rows("length_bias", "reinforcepp", 1, origin, curves))
    text = page.write(tmp_path, tmp_path / "results.md")[0].read_text()
    assert "| method | seeds | final quality | quality over training |" in text
    assert "| `reinforcepp` | 1 | 0.200 | 0.517 |" in text and "| 16,000 | 16 |" in text


def test_times_and_memory_that_are_left_out_are_not_shown(tmp_path):
    add_cell(tmp_path, "grpo", 1, [0.4, 0.5, 0.8])
    rows = table.read(tmp_path, "arithmetic")
    (tmp_path / "arithmetic.parquet").unlink()
    table.add(tmp_path, "arithmetic", rows[~rows.metric.isin(OF_TIME_AND_MEMORY)])
    text = page.write(tmp_path, tmp_path / "page.md")[0].read_text()
    assert "| 2.50 | 40,000 | - | - | - | - |" in text


def test_several_data_sources_have_a_table_of_their_own(tmp_path):
    add_cell(tmp_path, "grpo", 1, [0.4, 0.5, 0.6])
    assert "accuracy/" not in page.markdown(tmp_path, "page")
    rows = table.read(tmp_path, "arithmetic")
    of_source = [rows[rows.metric == "accuracy"].assign(metric=f"accuracy/sums_of_{size}") for size in (3, 4)]
    table.add(tmp_path, "arithmetic", pd.concat([rows, *of_source]))
    text = page.markdown(tmp_path, "page")
    assert "| method | final accuracy/sums_of_3 | final accuracy/sums_of_4 |" in text
    assert "| `grpo` | 0.600 | 0.600 |" in text


def test_a_suite_of_ones_own_is_on_the_page(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("question: Q?\nrecipe: math_rlvr/arithmetic\nsteps: 40\nreference: grpo\nmethods: {grpo: []}\n")
    suite, results = load(str(file)), tmp_path / "results"
    add_cell(results, "grpo", 1, [0.4, 0.5, 0.6])
    (results / "arithmetic.parquet").rename(results / "mine.parquet")
    suites.keep(suite, results)
    file.unlink()
    text = page.write(results, tmp_path / "page.md")[0].read_text()
    assert "## mine\n\nQ?" in text and "**Not finished**: 4 of 5" in text
    assert (tmp_path / "page_mine.png").is_file()
    assert not (results / "arithmetic.yaml").exists()
    suites.keep(load("arithmetic"), results)
    assert not (results / "arithmetic.yaml").exists()


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no table of a suite"):
        page.write(tmp_path, tmp_path / "results.md")
