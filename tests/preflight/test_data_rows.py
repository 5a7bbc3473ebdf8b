"""Every row of the data files is checked; what verl's loader accepts is accepted."""

from __future__ import annotations

import copy
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reinforcepp_verl.preflight import data_files, data_table

RECIPE = "+recipe=math_rlvr/arithmetic"
ROW = {
    "data_source": "x",
    "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "1+1="}],
    "reward_model": {"style": "rule", "ground_truth": "2"},
    "extra_info": {"index": 0},
}
LAST = 70
MESSAGES = "it must be a list of {role, content}"


@pytest.fixture(autouse=True)
def _in_arithmetic(arithmetic, monkeypatch):
    monkeypatch.chdir(arithmetic)


def _write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=16)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _check(compose, *files, also=()):
    return data_files.check(
        compose(RECIPE, "trainer.total_epochs=1000", f"data.train_files=[{','.join(map(str, files))}]", *also)
    )


def _with(path, wanted):
    """Return ROW with another value at a path such as prompt.1.role."""
    row = copy.deepcopy(ROW)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node = row
    for part in parents:
        node = node[part]
    node[last] = wanted
    return row


@pytest.mark.parametrize("suffix", [".parquet", ".json", ".jsonl"])
@pytest.mark.parametrize(
    ("path", "wanted", "says"),
    [
        ("data_source", None, "data.reward_fn_key=data_source is null (2 such rows); it must name where the row is"),
        ("prompt", None, f"data.prompt_key=prompt is null (2 such rows); {MESSAGES}"),
        ("prompt", [], f"data.prompt_key=prompt is [] (2 such rows); {MESSAGES}"),
        ("prompt.1", None, f"data.prompt_key=prompt has null as message 1 (2 such rows); {MESSAGES}"),
        ("prompt.1.content", None, f"data.prompt_key=prompt has no content in message 1 (2 such rows); {MESSAGES}"),
        ("prompt.0.role", None, f"data.prompt_key=prompt has no role in message 0 (2 such rows); {MESSAGES}"),
        ("prompt.0.role", "", f"data.prompt_key=prompt has '' as the role of message 0 (2 such rows); {MESSAGES}"),
        ("prompt.1.content", " ", "data.prompt_key=prompt has ' ' as the content of message 1 (2 such rows); it"),
        ("reward_model.ground_truth", " ", "reward_model.ground_truth is ' ' (2 such rows); add"),
        ("reward_model", None, "reward_model.ground_truth is null (2 such rows); add reward_model.ground_truth, which"),
        ("reward_model.ground_truth", None, "reward_model.ground_truth is null (2 such rows); add"),
    ],
)
def test_a_value_that_is_missing_in_a_late_row(compose, tmp_path, suffix, path, wanted, says):
    file = tmp_path / f"a{suffix}"
    _write(file, [*[ROW] * LAST, _with(path, wanted), ROW, _with(path, wanted)])
    [problem] = _check(compose, file)
    assert problem.startswith(f"data.train_files: {file}, row {LAST}: {says}")


@pytest.mark.parametrize("suffix", [".parquet", ".json", ".jsonl"])
def test_several_ground_truths_may_not_be_none(compose, tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    several = _with("reward_model.ground_truth", ["2", "two"])
    _write(file, [*[several] * LAST, _with("reward_model.ground_truth", [])])
    [problem] = _check(compose, file)
    assert problem.startswith(f"data.train_files: {file}, row {LAST}: reward_model.ground_truth is []; add")


@pytest.mark.parametrize("suffix", [".parquet", ".json", ".jsonl"])
@pytest.mark.parametrize("lacking", [None, ""])
def test_one_of_several_ground_truths_is_missing(compose, tmp_path, suffix, lacking):
    several, broken = (_with("reward_model.ground_truth", truths) for truths in (["2", "two"], ["2", lacking]))
    _write(file := tmp_path / f"a{suffix}", [*[several] * LAST, broken])
    [problem] = _check(compose, file)
    assert problem.startswith(f"data.train_files: {file}, row {LAST}: reward_model.ground_truth is ['2', {lacking!r}]")


def test_a_function_of_ones_own_may_do_without_a_text_to_compare_with(compose, tmp_path):
    _write(file := tmp_path / "a.parquet", [_with("reward_model.ground_truth", "")] * 30)
    (tmp_path / "mine.py").write_text("def compute_score(**given):\n    return 0.0\n")
    own = f"reward.custom_reward_function.path={tmp_path / 'mine.py'}"
    assert _check(compose, file, also=[own]) == []


@pytest.mark.parametrize("suffix", [".parquet", ".json", ".jsonl"])
def test_a_role_that_no_template_knows_is_a_warning(compose, tmp_path, suffix):
    _write(file := tmp_path / f"a{suffix}", [*[ROW] * LAST, _with("prompt.1.role", "User")])
    [warning] = _check(compose, file)
    assert str(warning) == (
        f"message_roles: data.train_files: {file}, row {LAST}: data.prompt_key=prompt has the role User (did you mean "
        "user?); chat templates know system, developer, user, assistant, tool, and most write any other word into the "
        "prompt"
    )


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("prompt", f"data.prompt_key=prompt is 'text'; {MESSAGES}"),
        ("prompt.1", f"data.prompt_key=prompt has 'text' as message 1; {MESSAGES}"),
        ("reward_model", "reward_model is 'text', not a struct; add reward_model.ground_truth"),
        ("extra_info", "extra_info is 'text'; it must be a struct"),
    ],
)
def test_text_where_a_struct_belongs(compose, tmp_path, suffix, path, says):
    file = tmp_path / f"a{suffix}"
    _write(file, [*[ROW] * LAST, _with(path, "text")])
    [problem] = _check(compose, file)
    assert problem.startswith(f"data.train_files: {file}, row {LAST}: {says}")


def test_text_in_a_parquet_column(compose, tmp_path):
    _write(tmp_path / "a.parquet", [_with("reward_model", json.dumps(ROW["reward_model"]))] * 30)
    [problem] = _check(compose, tmp_path / "a.parquet")
    assert "row 0: reward_model is " in problem and "not a struct (30 such rows); add" in problem


def test_a_reward_model_or_a_data_set_class_needs_no_ground_truth(compose, tmp_path):
    _write(file := tmp_path / "a.parquet", [_with("reward_model", None)] * 30)
    assert _check(compose, file, also=["reward.reward_model.enable=true"]) == []
    _write(file, [{"text": "x"}] * 30)
    assert _check(compose, file, also=["data.custom_cls.path=mine.py"]) == []


def test_the_files_of_a_split_have_the_same_types(compose, tmp_path):
    files = [tmp_path / name for name in ("a.parquet", "b.jsonl", "c.parquet")]
    _write(files[0], [ROW] * 30)
    _write(files[1], [{**ROW, "more": 1}] * 30)
    assert _check(compose, *files[:2]) == []
    _write(files[2], [{**ROW, "reward_model": {"ground_truth": 2}}] * 30)
    [problem] = _check(compose, *files)
    assert problem == (
        f"data.train_files: {files[2]} has reward_model as struct<ground_truth: int64>, but {files[0]} as "
        "struct<style: string, ground_truth: string>; write both with one type"
    )
    with pytest.raises(ValueError, match="can't be aligned"):
        datasets.concatenate_datasets([datasets.Dataset(pq.read_table(file)) for file in (files[0], files[2])])


def test_a_column_twice(compose, tmp_path):
    table = pa.Table.from_pylist([ROW] * 30)
    pq.write_table(table.append_column("prompt", table["prompt"]), tmp_path / "a.parquet")
    [problem] = _check(compose, tmp_path / "a.parquet")
    assert problem.startswith(f"data.train_files: {tmp_path}/a.parquet has two columns prompt; write it again")


LINE, LINES = json.dumps(ROW), "".join(json.dumps(ROW) + "\n" for _ in range(30))
JSON = {
    "lines": (LINES, None),
    "byte order mark": ("\ufeff" + LINES, None),
    "blank first line": ("\n" + LINES, None),
    "blank lines": (LINES.replace("\n", "\n \r\n\n"), None),
    "list": (f"[{','.join([LINE] * 30)}]", None),
    "indented list": (json.dumps([ROW] * 30, indent=2), None),
    "list after a byte order mark": (f"\ufeff[{','.join([LINE] * 30)}]\n\n", None),
    "list after a blank line": (f"\n[{','.join([LINE] * 30)}]", None),
    "objects over several lines": ("\n".join([json.dumps(ROW, indent=2)] * 30), None),
    "two objects on a line": (" ".join([LINE] * 30), None),
    "a column of several types": (LINES + json.dumps(_with("reward_model.ground_truth", 3)), None),
    "broken line": (LINES + "{not json}\n" + LINES, "line 31: "),
    "cut last line": (LINES + LINE[:40], "line 31: "),
    "number": (LINES + "3\n", "row 30 is 3, not an object"),
    "single quotes": (LINES + LINE.replace('"', "'"), "line 31: "),
    "key twice": (LINES + LINE.replace("{", '{"data_source": "x", ', 1), "line 31: JSON parse error: Column(/data_so"),
    "empty": ("", "has no rows"),
    "blank": ("\n\n", "has no rows"),
    "empty list": ("[]", "has no rows"),
}


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("name", JSON)
def test_json_as_verls_loader_reads_it(compose, tmp_path, suffix, name):
    text, says = JSON[name]
    file = tmp_path / f"a{suffix}"
    file.write_text(text, encoding="utf-8")
    found = _check(compose, file)
    assert len(found) == (says is not None)
    assert says is None or says in found[0]
    try:
        rows = len(datasets.load_dataset("json", data_files=str(file), cache_dir=str(tmp_path))["train"])
    except (datasets.exceptions.DatasetGenerationError, ValueError, StopIteration):
        rows = None
    assert (rows is None) == (says is not None)
    if rows is not None:
        table = data_table.read(file)
        assert sum(len(batch) for batch in table.batches(["prompt"])) == rows


def test_a_broken_line_in_a_later_batch(compose, tmp_path, monkeypatch):
    monkeypatch.setattr(data_table, "JSON_BYTES", len(LINE) * 3)
    (tmp_path / "a.jsonl").write_text(LINES + "{not json}\n" + LINES)
    [problem] = _check(compose, tmp_path / "a.jsonl")
    assert "a.jsonl is not a readable JSON file (line 31: " in problem
