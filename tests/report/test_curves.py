"""The figure of one or more runs, and the command that draws it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from reinforcepp_verl.cli.plot import plot
from reinforcepp_verl.common.plot_style import PALETTE
from reinforcepp_verl.report.curves import _tick, build_figure, line_style, plot_runs
from reinforcepp_verl.report.groups import group_runs
from reinforcepp_verl.report.history import History
from reinforcepp_verl.report.panels import PANELS
from reinforcepp_verl.report.panels import panel_of as metric_panel

ACCURACY = "val-core/reinforcepp/arithmetic/acc/mean@1"
REWARD = "critic/score/mean"
TITLES = [panel.title for panel in PANELS]

app = typer.Typer()
app.command()(plot)


def history(name="rpp", seed=1, folder="run", **series: list[float]) -> History:
    keys = {"reward": REWARD, "accuracy": ACCURACY, "tokens": "perf/total_num_tokens", "kl": "actor/kl_loss"}
    arrays = {keys[key]: (np.arange(1, len(values) + 1), np.array(values)) for key, values in series.items()}
    return History(Path(folder), name, seed, arrays)


def panel_of(figure, title: str):
    return figure.axes[TITLES.index(title)]


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def legend_of(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def write_run(folder: Path, seed: int = 1) -> Path:
    folder.mkdir(parents=True)
    records = [{"step": step, REWARD: step * 0.1 + seed, "perf/total_num_tokens": 100} for step in range(1, 6)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "summary.json").write_text(json.dumps({"seed": seed}))
    return folder


def test_a_single_run_has_its_panels_and_names_the_metric():
    figure = build_figure([history(reward=[0.1, 0.2], accuracy=[0.3, 0.4])], "my title")
    reward = panel_of(figure, "Reward")
    assert reward.lines[0].get_ydata().tolist() == [0.1, 0.2]
    assert texts(reward) == [REWARD]
    assert texts(panel_of(figure, "Validation accuracy")) == [ACCURACY]
    assert legend_of(figure) == ["rpp"]
    assert figure.get_suptitle() == "my title"
    assert [ax.get_title(loc="left") for ax in figure.axes] == TITLES


def test_panels_without_data_say_so():
    figure = build_figure([history(reward=[0.1], kl=[float("nan")])])
    empty = [ax.get_title(loc="left") for ax in figure.axes if "not recorded" in texts(ax)]
    assert empty == [title for title in TITLES if title != "Reward"]


def test_seeds_are_a_mean_a_band_and_faint_lines():
    figure = build_figure([history(seed=1, reward=[0.0, 1.0, 9.0]), history(seed=2, reward=[1.0, 3.0])])
    ax = panel_of(figure, "Reward")
    *faint, mean = ax.lines
    assert len(faint) == 2 and all(line.get_alpha() < 0.5 for line in faint)
    assert mean.get_xdata().tolist() == [1, 2]  # the mean stops with the shortest seed
    assert mean.get_ydata().tolist() == [0.5, 2.0]
    (band,) = ax.collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert corners >= {(1.0, 0.0), (1.0, 1.0), (2.0, 1.0), (2.0, 3.0)}
    assert {line.get_color() for line in ax.lines} == {PALETTE[0]}
    assert legend_of(figure) == ["rpp (mean of 2 seeds, band: min to max)"]


def test_unknown_or_repeated_seeds_are_not_averaged():
    runs = [history(seed=seed, folder=f"f{i}", reward=[0.1]) for i, seed in enumerate([1, 1, 2, 3, None])]
    groups = group_runs(runs)
    assert [group.label for group in groups] == [
        "rpp (mean of 2 seeds, band: min to max)",
        "rpp (f0)",
        "rpp (f1)",
        "rpp (f4)",
    ]
    assert groups[0].members == (runs[2], runs[3])


def test_two_runs_of_the_same_seed_stay_apart():
    groups = group_runs([history(folder="a", reward=[1.0]), history(folder="b", reward=[2.0])])
    assert [group.label for group in groups] == ["rpp (a)", "rpp (b)"]


def test_many_runs_have_distinct_styles():
    assert len({tuple(line_style(i).values()) for i in range(20)}) == 20


def test_tokens_are_cumulative_and_from_zero():
    ax = panel_of(build_figure([history(tokens=[10.0, 20.0, 30.0])]), "Tokens (cumulative)")
    assert ax.lines[0].get_ydata().tolist() == [10.0, 30.0, 60.0]
    assert ax.get_ylim()[0] == 0


def test_validation_prefers_the_metric_all_runs_share_and_calls_reward_reward():
    def run(name: str, *keys: str) -> History:
        return History(Path(name), name, 1, {key: (np.array([0]), np.array([0.5])) for key in keys})

    shared, other = "val-core/z/reward/mean@1", "val-core/a/reward/mean@1"
    figure = build_figure([run("one", shared, other), run("two", shared), run("no validation", REWARD)])
    ax = panel_of(figure, "Validation accuracy")
    assert texts(ax) == [shared]
    assert ax.get_title(loc="left") == "Validation reward"


def test_a_single_point_is_visible():
    ax = panel_of(build_figure([history(reward=[0.5])]), "Reward")
    assert ax.lines[0].get_marker() == "o"


def test_chosen_metrics_replace_the_panels_and_are_titled():
    gradient = ("actor/grad_norm", (np.array([1, 2]), np.array([3.0, 4.0])))
    run = history(reward=[0.5, 0.6])
    run.series.update([gradient])
    panels = [metric_panel("Gradient norm=actor/grad_norm"), metric_panel(REWARD)]
    figure = build_figure([run], panels=panels)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Gradient norm", REWARD]
    assert [texts(ax) for ax in figure.axes] == [["actor/grad_norm"], [""]]
    assert [ax.lines[0].get_ydata().tolist() for ax in figure.axes] == [[3.0, 4.0], [0.5, 0.6]]
    assert len(build_figure([run], panels=panels[:1] * 5).axes) == 8
    with pytest.raises(ValueError, match="no run has recorded actor/grad_nrm; metrics.jsonl has the names"):
        build_figure([run], panels=[*panels, metric_panel("actor/grad_nrm")])


def test_no_runs_is_refused():
    with pytest.raises(ValueError, match="at least one run"):
        build_figure([])


@pytest.mark.parametrize(
    ("value", "label"), [(0.1 + 0.2, "0.3"), (2e-7, "2e-7"), (0.0, "0"), (12000, "12k"), (1.5e6, "1.5M"), (-50, "-50")]
)
def test_ticks(value, label):
    assert _tick(value) == label


@pytest.mark.parametrize(("name", "start"), [("c.png", b"\x89PNG"), ("sub/C.SVG", b"<?xml")])
def test_files_are_written_and_deterministic(tmp_path, name, start):
    runs = [history(seed=seed, reward=[0.1, 0.2 * seed]) for seed in (1, 2)]
    written = []
    for folder in ("first", "second"):
        plot_runs(runs, tmp_path / folder / name, title="t")
        written.append((tmp_path / folder / name).read_bytes())
    assert written[0].startswith(start) and len(written[0]) > 20_000
    assert written[0] == written[1]


@pytest.mark.parametrize("name", ["c.pdf", "c"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end in \.png or \.svg"):
        plot_runs([history(reward=[0.1])], tmp_path / name)


def test_command_writes_into_the_run_behind_latest(tmp_path):
    run = write_run(tmp_path / "run")
    (tmp_path / "latest").symlink_to("run")
    result = CliRunner().invoke(app, [str(tmp_path / "latest"), str(run)])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(run.resolve() / "curves.png")
    assert (run / "curves.png").stat().st_size > 20_000


def test_command_accepts_out_and_title(tmp_path):
    runs = [str(write_run(tmp_path / f"s{seed}", seed)) for seed in (1, 2)]
    result = CliRunner().invoke(app, [*runs, "-o", str(tmp_path / "x.svg"), "--title", "Two"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "x.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/nope"], "no such run folder"),
        (["{tmp}/empty"], "no step recorded yet"),
        (["{tmp}/run", "-m", "critic/scores"], "no run has recorded critic/scores"),
        (["{tmp}/run", "-o", "{tmp}/x.pdf"], ".png or .svg"),
        (["{tmp}/run", "-o", "{tmp}/run/summary.json/x.png"], "summary.json"),
    ],
)
def test_command_errors_are_one_line_and_code_2(tmp_path, arguments, message):
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metrics.jsonl").touch()
    result = CliRunner().invoke(app, [argument.format(tmp=tmp_path) for argument in arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "curves.png").write_bytes(b"old")
    # A limit on the size of files fails like a full disk: in the write, whose error names no file.
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    command = (
        f"{limited}from reinforcepp_verl.cli import main; sys.argv = ['reinforcepp', 'plot', {str(run)!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"error: [Errno 27] File too large: '{run}/curves.png'"
    assert {path.name: path.read_bytes() for path in run.glob("*curves*")} == {"curves.png": b"old"}


def test_long_runs_are_drawn_with_few_points():
    values = np.random.default_rng(1).random(50_000).tolist()
    figure = build_figure([history(seed=seed, reward=values) for seed in (1, 2)])
    ax = panel_of(figure, "Reward")
    assert all(len(line.get_xdata()) < 5000 for line in ax.lines)
    assert all(line.get_xdata()[-1] == 50_000 and max(line.get_ydata()) == max(values) for line in ax.lines)


def test_command_without_runs_fails():
    assert CliRunner().invoke(app, []).exit_code == 2
