"""`reinforcepp prepare custom`: a user's own files, columns, name and validation set; and the layouts of AIME."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from decimal import Decimal
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

from reinforcepp_verl.cli import app
from reinforcepp_verl.data import file_formats, held_out, prompt_templates, transcripts
from reinforcepp_verl.data.conversion import Conversion
from reinforcepp_verl.data.custom_source import custom_source
from reinforcepp_verl.data.loading import Split, load
from reinforcepp_verl.data.rows import UnusableRowError
from reinforcepp_verl.preflight import data_files as preflight
from reinforcepp_verl.rewards.math import compute_score

ROWS = [{"task": {"text": f"{number}+1="}, "results": [str(number + 1), f"0{number + 1}"]} for number in range(20)]
PATHS = ("--question", "task.text", "--answer", "results")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["prepare", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["prepare", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def jsonl(name: str, rows: list[dict]) -> Path:
    file = Path(name)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def written(file: str) -> list[dict]:
    return pq.read_table(file).to_pylist()


def test_nested_columns_several_right_answers_a_system_message_and_a_name():
    file = jsonl("mine.jsonl", ROWS)
    run("custom", "--source", file, *PATHS, "--name", "sums", "--system", "Add.", "--template", "bare")
    first, *_ = written("data/sums/train.parquet")
    assert first == {
        "data_source": "sums",
        "prompt": [{"role": "system", "content": "Add."}, {"role": "user", "content": "0+1="}],
        "ability": "custom",
        "reward_model": {"style": "rule", "ground_truth": ["1", "01"]},
        "extra_info": {"split": "train", "index": 0, "question": "0+1="},
    }


def test_our_reward_and_the_checks_accept_several_right_answers():
    run("custom", "--source", jsonl("mine.jsonl", ROWS), *PATHS, "--val-size", 4)
    config = {
        "data": {
            "train_files": "data/custom/train.parquet",
            "val_files": "data/custom/test.parquet",
            "prompt_key": "prompt",
            "reward_fn_key": "data_source",
            "train_batch_size": 3,
        },
        "reward": {"reward_manager": {"source": "register"}, "reward_model": {"enable": False}},
    }
    assert preflight.check(OmegaConf.create(config)) == []
    truth = written("data/custom/train.parquet")[0]["reward_model"]["ground_truth"]
    scores = [compute_score("custom", rf"\boxed{{{answer}}}", truth)["score"] for answer in (*truth, "77")]
    assert scores == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(("size", "count"), [("5", 5), ("0.25", 5), ("0.95", 19)])
def test_validation_rows_are_split_off_and_in_no_other_split(size, count):
    run("custom", "--source", jsonl("mine.jsonl", ROWS * 2), *PATHS, "--val-size", size)
    train, test = (written(f"data/custom/{split}.parquet") for split in ("train", "test"))
    questions = [{row["extra_info"]["question"] for row in rows} for rows in (train, test)]
    assert (len(train), len(test)) == (len(questions[0]), len(questions[1])) == (20 - count, count)
    assert not questions[0] & questions[1]
    assert {row["extra_info"]["split"] for row in test} == {"test"}
    splits = json.loads(Path("data/custom/manifest.json").read_text())["splits"]
    assert (splits["train"]["duplicates"], splits["test"]["split_off"]) == (20, count)


def test_a_split_depends_on_the_rows_and_the_seed_only():
    rows = [{"extra_info": {"index": index, "split": "train"}} for index in range(100)]
    first, again, other = (held_out.split_off(rows, 0.1, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_same_request_leaves_the_folder_alone_and_another_split_needs_force():
    request = ("custom", "--source", jsonl("mine.jsonl", ROWS), *PATHS, "--val-size", 5)
    run(*request)
    before = Path("data/custom/test.parquet").read_bytes()
    run(*request)
    assert Path("data/custom/test.parquet").read_bytes() == before
    assert "prepared with a different seed; choose another --out" in refused(*request, "--seed", 2)
    run(*request, "--seed", 2, "--force")
    assert Path("data/custom/test.parquet").read_bytes() != before


def test_questions_of_an_evaluation_are_left_out_before_the_split():
    run("custom", "--source", jsonl("evaluation.jsonl", ROWS[:4]), *PATHS, "--val-size", 2, "--name", "evaluation")
    asked = {row["extra_info"]["question"] for row in written("data/evaluation/test.parquet")}
    arguments = ("custom", "--source", jsonl("mine.jsonl", ROWS), *PATHS, "--val-size", 0.5)
    assert "2 dropped" in run(*arguments, "--against", "data/evaluation")
    rows = [*written("data/custom/train.parquet"), *written("data/custom/test.parquet")]
    assert len(rows) == 18 and not asked & {row["extra_info"]["question"] for row in rows}


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("train.jsonl.gz", gzip.compress),
        ("train.json.bz2", bz2.compress),
        ("train.csv.xz", lzma.compress),
        ("train.csv", bytes),
    ],
)
def test_compressed_files_are_read_and_named_after_their_split(name, compress):
    rows = [{"question": "1+1, or so?", "answer": "2"}, {"question": "1+2", "answer": "3"}]
    text = {
        "jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "json": json.dumps(rows),
        "csv": 'question,answer\n"1+1, or so?",2\n1+2,3\n',
    }[name.split(".")[1]]
    Path("mine").mkdir()
    (Path("mine") / name).write_bytes(compress(text.encode()))
    assert list(load(custom_source("mine"), "mine")["train"].rows()) == rows


def test_values_of_csv_stay_the_text_that_they_are():
    Path("mine.csv").write_text("question,answer\na,007\nb,NA\nc,1.50\nd,\n")
    assert [row["answer"] for row in file_formats.rows(Path("mine.csv"))] == ["007", "NA", "1.50", ""]
    Path("empty.csv").write_text("question,answer\n")
    assert list(file_formats.rows(Path("empty.csv"))) == []
    assert "empty.csv has no rows; give another --source" in refused("custom", "--source", "empty.csv")


def test_values_of_json_stay_what_they_are():
    """pandas, which `datasets` falls back to, reads "007" as 7, rounds large integers and reads dates as times."""
    answers = ["007", 8, 12345678901234567890123, "2020-01-01", 1]
    file = jsonl("mine.jsonl", [{"question": f"{number}?", "answer": one} for number, one in enumerate(answers)])
    run("custom", "--source", file)
    assert [row["reward_model"]["ground_truth"] for row in written("data/custom/train.parquet")] == list(
        map(str, answers)
    )


def test_a_row_that_lacks_a_column_is_unusable_and_does_not_hide_it():
    file = jsonl("mine.jsonl", [{"question": "0?"}, {"question": "1?", "answer": "1"}])
    run("custom", "--source", file, "--max-unusable", "0.5")
    assert [row["extra_info"]["question"] for row in written("data/custom/train.parquet")] == ["1?"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"question;answer\na, b;1\n", "line 1: one column, 'question;answer'; it seems to be separated by ';': write"),
        (
            b"question,answer\na,1\nb,2,3\n",
            "mine.csv cannot be read (line 3: 3 values for 2 columns: quote values",
        ),
        (b'question,answer\n"a" b,2\n', "(line 2: ',' expected after '\"')"),
        (b'question,answer\na,"1\n', "(line 2: unexpected end of data)"),
        (b"question,question\na,b\n", "(line 1: two columns question)"),
        ("question,answer\n\xe4,1\n".encode("latin-1"), "; save it as UTF-8"),
    ],
)
def test_broken_csv(content, message, capfd):
    Path("mine.csv").write_bytes(content)
    assert message in refused("custom", "--source", "mine.csv")
    assert capfd.readouterr().err == ""


def test_blanks_around_rows_and_names_of_csv_mean_nothing():
    Path("mine.csv").write_bytes(
        b'\xef\xbb\xbf\r\n , \r\nquestion , answer,\r\n\r\n"a\r\nb, c",1,\r\n , ,\r\nd,2,x\r\n'
    )
    rows = list(file_formats.rows(Path("mine.csv")))
    assert [(row["question"], row["answer"]) for row in rows] == [("a\r\nb, c", "1"), ("d", "2")]


def test_an_archive_of_several_files_is_refused():
    with zipfile.ZipFile("two.csv.zip", "w") as archive:
        for name in ("a.csv", "b.csv"):
            archive.writestr(name, "question,answer\na,1\n")
    assert "it holds 2 files: give one file, or unpack it and give the folder" in refused(
        "custom", "--source", "two.csv.zip"
    )


def test_a_number_that_is_not_finite_is_no_answer():
    Path("mine.jsonl").write_text('{"question": "a", "answer": NaN}\n{"question": "b", "answer": 1e400}\n')
    assert "unusable (1 × answer is nan, 1 × answer is inf)" in refused("custom", "--source", "mine.jsonl")


def test_decimal_numbers_are_text():
    table = pa.table({"question": ["a", "b"], "answer": pa.array([Decimal("1.50"), Decimal("100.00")])})
    pq.write_table(table, "mine.parquet")
    run("custom", "--source", "mine.parquet")
    assert [row["reward_model"]["ground_truth"] for row in written("data/custom/train.parquet")] == ["1.50", "100.00"]


def test_files_that_are_named_after_no_split_are_for_training():
    Path("mine").mkdir()
    for number in range(2):
        jsonl(f"mine/part-{number}.jsonl", [{"question": f"{number}?", "answer": "1"}])
    run("custom", "--source", "mine")
    assert len(written("data/custom/train.parquet")) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "a", "answer": "b"}\n{"question": \n', "line 2: "),
        ('\n{"question": "a", "answer": "b"}\n7\n', "line 3: 7 is not an object"),
        ("", "it has no rows"),
        ("[1, 2]", "entry 0: 1 is not an object"),
    ],
)
def test_broken_json_is_named_by_its_line(content, message):
    Path("mine.jsonl").write_text(content)
    assert message in refused("custom", "--source", "mine.jsonl")


def test_a_dot_may_be_part_of_a_columns_name():
    file = jsonl("mine.jsonl", [{"task.text": "1+1", "answer": "2"}])
    run("custom", "--source", file, "--question", "task.text")
    assert written("data/custom/train.parquet")[0]["prompt"][0]["content"].startswith("1+1\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "custom needs --source: a file, a folder or an id on the Hugging Face hub; add it"),
        (
            ("--source", "mine.jsonl", "--question", "task.txt"),
            "--question: mine.jsonl has no column task.txt (did you mean task.text?); set --question to one of "
            "task.text, results",
        ),
        (
            ("--source", "mine.jsonl", "--question", "task.text", "--answer", "result"),
            "--answer: mine.jsonl has no column result (did you mean results?); set --answer to one of",
        ),
        (("--source", "mine.jsonl", "--question", "task"), "task is not text"),
        (("--source", "mine.jsonl", "--name", "a/b"), "--name is 'a/b': use letters, digits"),
        (("--source", "mine.jsonl", "--question", ""), "--question is empty: set it to the name of a column"),
        (
            ("--source", "mine.jsonl", *PATHS, "--val-size", "20"),
            "that is 20 of 20 rows; both splits need at least one",
        ),
        (("--source", "mine.jsonl", *PATHS, "--val-size", "0.01"), "--val-size is 0.01: that is 0 of 20 rows"),
        (("--source", "mine.jsonl", "--val-size", "1.5"), "--val-size is 1.5: it must be a number of rows, or a share"),
        (("--source", "mine.jsonl", "--val-size", "inf"), "--val-size is inf: it must be a number of rows, or a share"),
        (("--source", "mine.jsonl", "--val-size", "-1"), "--val-size is -1: it must be a number of rows, or a share"),
        (("--source", "mine.jsonl", "--seed", "2"), "custom uses --seed only with --val-size; remove it, or add"),
        (
            ("--source", "mine.jsonl", "--template", "boxed_system", "--system", "Add."),
            "--system: the template boxed_system has a system message already; remove one of them",
        ),
        (
            ("--source", "both", *PATHS, "--val-size", "2"),
            "--val-size: both has a validation split, both/test.jsonl; remove",
        ),
    ],
)
def test_refused_options(arguments, message):
    jsonl("mine.jsonl", ROWS)
    Path("both").mkdir()
    for split in ("train", "test"):
        jsonl(f"both/{split}.jsonl", ROWS)
    if "task" in arguments:
        arguments = (*arguments, "--answer", "results")
    assert message in refused("custom", *arguments)


def test_options_of_custom_are_refused_elsewhere():
    options = ("--question", "q", "--answer", "a", "--name", "n", "--system", "s", "--val-size", 1)
    for task in ("gsm8k", "arithmetic"):
        named = "--question, --answer, --name, --system, --val-size"
        assert f"{task} does not use {named}; remove it" in refused(task, *options)


@pytest.mark.parametrize("task", ["aime24", "aime25"])
@pytest.mark.parametrize("names", [("problem", "answer"), ("Problem", "Answer"), ("question", "answer")])
def test_aime_is_read_in_its_three_layouts(task, names):
    run(task, "--source", jsonl("mine.jsonl", [dict(zip(names, ("How many?", "033"), strict=True))]))
    [row] = written(f"data/{task}/test.parquet")
    assert (row["extra_info"]["question"], row["reward_model"]["ground_truth"]) == ("How many?", "33")


def test_missing_columns_of_aime_name_all_layouts():
    message = refused("aime24", "--source", jsonl("mine.jsonl", [{"question": "How many?", "Answers": 3}]))
    assert "has no column answer (did you mean Answers?); aime24 needs problem and answer, or Problem and" in message


def test_hub_id_may_name_a_subset(monkeypatch):
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((*arguments, options["revision"]))
        return {"train": datasets.Dataset.from_list([{"question": "q", "answer": "1"}])}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for origin in ("me/mine", "me/mine:hard", "me/mine:hard@0123abc"):
        assert list(load(custom_source(origin), origin)) == ["train"]
    assert asked == [("me/mine", None, None), ("me/mine", "hard", None), ("me/mine", "hard", "0123abc")]


def test_a_transcript_is_a_chat():
    assert transcripts.messages("\n\nHuman: Name a\n\nprime.\n\nAssistant: 2. Human: no\n\nHuman: Bye") == [
        {"role": "user", "content": "Name a\n\nprime."},
        {"role": "assistant", "content": "2. Human: no"},
        {"role": "user", "content": "Bye"},
    ]
    for text in ("", "Hello.\n\nHuman: Hi."):
        with pytest.raises(UnusableRowError, match="does not begin with Human: or Assistant:"):
            transcripts.messages(text)


def test_rows_of_files_with_one_and_with_several_right_answers_become_lists():
    Path("mine").mkdir()
    jsonl("mine/train-00000-of-00002.jsonl", [{"question": "a", "answer": "1"}])
    jsonl("mine/train-00001-of-00002.jsonl", [{"question": "b", "answer": ["1", "2"]}])
    run("custom", "--source", "mine")
    assert [row["reward_model"]["ground_truth"] for row in written("data/custom/train.parquet")] == [["1"], ["1", "2"]]


def test_an_empty_list_is_no_answer():
    conversion = Conversion(custom_source("x"), "train", prompt_templates.find("bare"))
    raw = [{"question": "q", "answer": answer} for answer in ([], ["1", ""], ["1"])]
    assert len(list(conversion.rows(Split("x", table=raw)))) == 1
    assert conversion.unusable == {"empty answer": 2}
