"""`reinforcepp prepare` as a user types it: what it writes and prints, that verl loads it, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner
from verl.utils.dataset.rl_dataset import RLHFDataset

from reinforcepp_verl.cli import app
from reinforcepp_verl.data.loading import checksum
from reinforcepp_verl.data.prepared_folder import CONTENTS
from reinforcepp_verl.data.source_kinds import Pairs
from reinforcepp_verl.data.sources import SOURCES
from reinforcepp_verl.preflight import data_files as preflight
from reinforcepp_verl.tasks.arithmetic_task import build_tokenizer

FIXTURES = Path(__file__).parents[1] / "samples"
ROWS = {
    "gsm8k": {"train": 3, "test": 2},
    "math": {"train": 4, "test": 2},
    "math500": {"test": 2},
    "dapo_math_17k": {"train": 3},
    "dapo_math_17k_processed": {"train": 2},
    "deepscaler": {"train": 3},
    "big_math": {"train": 3},
    "open_r1_math": {"train": 3},
    "numina_math": {"train": 3},
    "numina_math_cot": {"train": 3, "test": 1},
    "orz_math": {"train": 3},
    "aime24": {"test": 2},
    "aime25": {"test": 2},
    "preferences": {"train": 3},
    "hh_rlhf": {"train": 2, "test": 2},
    "ultrafeedback": {"train": 1, "test": 1},
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_tokenizer().save_pretrained(folder)
    return folder


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["prepare", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["prepare", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def jsonl(file: Path, *rows: dict) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("name", SOURCES)
def test_verl_loads_the_output_of_every_source(name, tmp_path):
    run(name, "--source", FIXTURES / name)
    folder = tmp_path / "data" / name
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {split: numbers["rows"] for split, numbers in manifest["splits"].items()} == ROWS[name]
    assert set(content(folder)) == {"manifest.json", "summary.png", *(f"{split}.parquet" for split in ROWS[name])}
    assert manifest["files"] == {file: checksum(folder / file) for file in manifest["files"]}
    options = {"max_prompt_length": 1024, "filter_overlong_prompts_workers": None, "cache_dir": str(tmp_path / "verl")}
    for split, count in ROWS[name].items():
        dataset = RLHFDataset(str(folder / f"{split}.parquet"), build_tokenizer(), OmegaConf.create(options))
        assert len(dataset) == count
        row = dataset[0]
        assert row["raw_prompt"][-1]["role"] == "user" and row["data_source"] == SOURCES[name].data_source
        assert row["reward_model"]["style"] == ("model" if isinstance(SOURCES[name], Pairs) else "rule")
        assert (row["index"], row["extra_info"]["split"]) == (0, split)


@pytest.mark.parametrize("name", SOURCES)
def test_same_input_gives_the_same_bytes_wherever_it_is(name, tmp_path):
    shutil.copytree(FIXTURES / name, tmp_path / "elsewhere")
    run(name, "--source", FIXTURES / name, "--out", "first")
    run(name, "--source", "elsewhere", "--out", "second")
    assert content(tmp_path / "first") == content(tmp_path / "second")
    assert set(content(tmp_path / "first")) <= CONTENTS


def test_preflight_accepts_the_files(tmp_path):
    run("gsm8k", "--source", FIXTURES / "gsm8k")
    config = {
        "data": {
            "train_files": str(tmp_path / "data/gsm8k/train.parquet"),
            "val_files": [str(tmp_path / "data/gsm8k/test.parquet")],
            "prompt_key": "prompt",
            "reward_fn_key": "data_source",
            "train_batch_size": 3,
        },
        "reward": {"reward_manager": {"source": "register"}, "reward_model": {"enable": False}},
    }
    assert preflight.check(OmegaConf.create(config)) == []


def test_summary_counts_and_names_the_skipped_rows():
    shown = run("gsm8k", "--source", FIXTURES / "gsm8k")
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines()]
    assert ["rows read", "5", "2"] in lines
    assert ["duplicates", "1 dropped", "0"] in lines
    assert ["also in an evaluation set", "1 dropped", "0"] in lines
    assert ["rows written", "3", "2"] in lines
    assert ["prompt in characters, median", "149", "120"] in lines
    assert ["answer: integer", "3", "2"] in lines
    assert "such as 'A jug holds 3 litres. How many litres do 9 jugs hold?'" in shown
    assert "use with: data.train_files=data/gsm8k/train.parquet data.val_files=data/gsm8k/test.parquet" in shown


def test_duplicates_with_another_answer_are_counted_separately():
    shown = run("deepscaler", "--source", FIXTURES / "deepscaler")
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines()]
    assert ["duplicates", "2 dropped"] in lines and ["with a different answer", "1"] in lines


def test_pairs_are_summarized_by_possible_shortcuts_of_a_reward_model():
    shown = run("preferences", "--source", FIXTURES / "preferences")
    assert all(f"│ {text}" in shown for text in ("chosen is longer", "rejected is longer", "same length"))


def test_lengths_in_tokens_are_those_of_the_chat_template(tokenizer, tmp_path):
    shown = run("gsm8k", "--source", FIXTURES / "gsm8k", "--tokenizer", tokenizer)
    assert "prompt in tokens of tiny, median" in shown
    numbers = json.loads((tmp_path / "data/gsm8k/manifest.json").read_text())["splits"]["test"]
    prompts = pq.read_table(tmp_path / "data/gsm8k/test.parquet").column("prompt").to_pylist()
    # A begin token and one token per character.
    assert numbers["length"]["longest"] == 1 + max(len(prompt[0]["content"]) for prompt in prompts)


def test_overlap_is_kept_only_when_asked_for_and_then_counted(tmp_path):
    shown = run("gsm8k", "--source", FIXTURES / "gsm8k", "--keep-overlap")
    assert "1 kept" in shown
    assert pq.read_metadata(tmp_path / "data/gsm8k/train.parquet").num_rows == 4


@pytest.mark.parametrize("evaluation", ["data/math500", "data/math500/test.parquet"])
def test_training_questions_of_another_evaluation_are_left_out(evaluation, tmp_path):
    run("math500", "--source", FIXTURES / "math500")
    run("aime25", "--source", FIXTURES / "aime25")
    shown = run("deepscaler", "--source", FIXTURES / "deepscaler", "--against", evaluation, "--against", "data/aime25")
    assert "train has questions of an evaluation set, such as 'Expand $(x + 1)^2$.'" in shown
    manifest = json.loads((tmp_path / "data/deepscaler/manifest.json").read_text())
    assert manifest["splits"]["train"]["overlap"] == 1
    assert manifest["against"] == [
        checksum(tmp_path / "data" / name / "test.parquet") for name in ("math500", "aime25")
    ]


def test_a_users_own_file_and_template(tmp_path):
    file = jsonl(tmp_path / "mine.jsonl", {"problem": "1+1", "answer": 2}, {"problem": "1+2", "answer": 3})
    Path("own.yaml").write_text("user: 'What is {question}?'\n")
    run("deepscaler", "--source", file, "--template", "own.yaml", "-o", "out")
    rows = pq.read_table("out/train.parquet").to_pylist()
    assert [row["prompt"][0]["content"] for row in rows] == ["What is 1+1?", "What is 1+2?"]
    assert [row["reward_model"]["ground_truth"] for row in rows] == ["2", "3"]


def test_unusable_rows_within_the_limit_are_counted(tmp_path):
    rows = [{"problem": f"q{i}", "answer": "1"} for i in range(3)]
    file = jsonl(tmp_path / "mine.jsonl", *rows, {"problem": "q", "answer": ""})
    assert "--max-unusable 0.25" in refused("deepscaler", "--source", file)
    assert "1 dropped" in run("deepscaler", "--source", file, "--max-unusable", 0.25)
    assert json.loads(Path("data/deepscaler/manifest.json").read_text())["splits"]["train"]["unusable"] == {
        "empty answer": 1
    }


def test_same_request_leaves_the_folder_alone_and_another_needs_force(tmp_path):
    source = ("--source", FIXTURES / "math")
    run("math", *source)
    picture = tmp_path / "data/math/summary.png"
    picture.write_bytes(b"mine")
    run("math", *source)
    assert picture.read_bytes() == b"mine"
    message = refused("math", *source, "--template", "bare")
    assert (
        "data/math holds math, prepared with a different template; choose another --out, or replace it with --force"
        in message
    )
    message = refused("gsm8k", "--source", FIXTURES / "gsm8k", "--out", "data/math")
    assert "holds math, prepared with a different task, source, template;" in message
    run("math", *source, "--template", "bare", "--force")
    assert json.loads((tmp_path / "data/math/manifest.json").read_text())["template"]["name"] == "bare"
    assert picture.read_bytes() != b"mine"


def test_incomplete_product_is_made_again(tmp_path):
    run("math", "--source", FIXTURES / "math")
    (tmp_path / "data/math/test.parquet").unlink()
    run("math", "--source", FIXTURES / "math")
    assert (tmp_path / "data/math/test.parquet").is_file()


@pytest.mark.parametrize(
    ("name", "text"), [("thesis.tex", ""), ("train.parquet", ""), ("manifest.json", "[]"), ("manifest.json", "{}")]
)
def test_folder_that_holds_something_else_is_never_replaced(name, text, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(text)
    message = refused("math", "--source", FIXTURES / "math", "--out", "out", "--force")
    assert "choose a folder that is new, empty or made by this command" in message
    assert content(tmp_path / "out") == {name: text.encode()}
    assert "is a file: choose a folder" in refused("math", "--source", FIXTURES / "math", "--out", f"out/{name}")


def test_failure_leaves_nothing_behind(tmp_path):
    jsonl(tmp_path / "mine" / "train.jsonl", {"problem": "q", "answer": "1"})
    refused("math", "--source", "mine", "--out", "out")
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["mine"]


def test_train_split_of_nothing_but_evaluation_questions_is_refused(tmp_path):
    row = {"question": "q", "answer": "#### 1"}
    jsonl(tmp_path / "mine" / "train.jsonl", row)
    jsonl(tmp_path / "mine" / "test.jsonl", row)
    assert "every row of mine/train.jsonl is also in an evaluation set" in refused("gsm8k", "--source", "mine")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("gsm8k", "--source", "nowhere"),
            "--source: no such file or folder: nowhere; correct it, or give a hub id",
        ),
        (("gsm8k", "--source", "."), "has no file that ends in .parquet, .json, .jsonl, .csv (also with .gz, "),
        (("gsm8k", "--template", "boxd"), "--template: no such template: boxd (did you mean boxed?)"),
        (("gsm8k", "--tokenizer", "nowhere"), "--tokenizer: no such folder: nowhere; give the folder of the model"),
        (("gsm8k", "--tokenizer", "."), "--tokenizer: . has no tokenizer ("),
        (("gsm8k", "--against", "nowhere"), "--against: no such file: nowhere; create it with `reinforcepp prepare`"),
        (("gsm8k", "--against", "."), "--against: no such file: test.parquet; create it with"),
        (("gsm8k", "--against", __file__), "was not written by `reinforcepp prepare`; prepare it again"),
        (("gsm8k", "--max-unusable", "2"), "--max-unusable is 2.0: it must be between 0 and 1"),
        (("gsm8k", "--seed", "1"), "gsm8k does not use --seed; remove it"),
        (("aime24", "--keep-overlap"), "aime24 is an evaluation set without training rows: remove --against and"),
        (
            ("preferences", "--template", "boxed"),
            "--template: preferences holds whole chats, which need no template",
        ),
        (
            ("arithmetic", "--source", ".", "--keep-overlap"),
            "arithmetic does not use --source, --keep-overlap; remove",
        ),
    ],
)
def test_contradictory_command(arguments, message):
    assert message in refused(*arguments)


def test_files_of_another_tool_are_no_evaluation(tmp_path):
    datasets.Dataset.from_list([{"extra_info": {"index": 1}}]).to_parquet("test.parquet")
    assert "was not written by `reinforcepp prepare`" in refused("gsm8k", "--against", "test.parquet")


@pytest.mark.long
def test_without_a_network_one_line_says_what_to_do():
    command = [Path(sys.executable).with_name("reinforcepp"), "prepare", "gsm8k"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(Path.cwd() / "home")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 2
    assert done.stderr.startswith("error: gsm8k: openai/gsm8k cannot be loaded from the hub (")
    assert done.stderr.endswith("copy it here and add --source DIR\n") and done.stderr.count("\n") == 1


def test_help_names_every_task_and_teaches_by_example():
    shown = run("--help")
    assert "reinforcepp prepare deepscaler --against data/math500" in shown
    assert all(f"{name}" in shown for name in SOURCES)
