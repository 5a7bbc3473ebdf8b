"""YAML of the user that is not sound: one line with file and line number, exit code 2, at once."""

from __future__ import annotations

import codecs
import json
import re
import time

import pytest

from reinforcepp_verl.common import yaml_file
from reinforcepp_verl.runs import launch
from reinforcepp_verl.runs.resume_run import prepare

HEAD = "# @package _global_\ndefaults: [math_rlvr/arithmetic, _self_]\n"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(f'*{before}' for _ in range(9))}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
DEEP = "deep: " + "[" * 5000 + "]" * 5000
# name, what follows HEAD, line, and what the message says
UNSOUND = [
    ("a tab", "trainer:\n\ttotal_epochs: 3\n", 4, "a tab indents it; use spaces"),
    ("a key twice", "seed: 1\ntrainer: {}\nseed: 2\n", 5, "the key seed is there twice, first in line 3; remove one"),
    ("a nested key twice", "trainer:\n  nnodes: 1\n  nnodes: 2\n", 5, "the key nnodes is there twice, first in line 4"),
    ("another encoding", "# Größe\nseed: 1\n".encode("latin-1"), 3, "it is not text in UTF-8"),
    ("UTF-16", codecs.BOM_UTF16_LE + "seed: 1".encode("utf-16-le"), 3, "it is not text in UTF-8"),
    ("self-reference", "trainer: &it\n  logger: [*it]\n", 4, "*it refers to a node that contains it"),
    ("nesting", f"{DEEP}\n", 3, "nested more than 40 levels deep"),
    ("mappings in mappings", "".join(f"{' ' * level}k:\n" for level in range(200)), 43, "nested more than 40 levels"),
    ("anchors that multiply", LAUGHS, None, "with its anchors expanded it has more than 20000 values"),
    ("an anchor that is not there", "seed: *mine\n", 3, "*mine refers to no anchor above it"),
    ("an integer of thousands of digits", f"seed: {'9' * 6000}\n", 3, "a number of 6000 digits"),
    (
        "JSON nested deep",
        f"deep: {'[' * 3000}{json.dumps({'a': 1})}{']' * 3000}\n",
        3,
        "nested more than 40 levels deep",
    ),
    ("a bracket that stays open", "trainer:\n  logger: [console, file\n", None, "correct the syntax"),
    ("a quote that stays open", "trainer: {project_name: 'mine}\n", None, "correct the syntax"),
    ("two documents", "seed: 1\n---\nseed: 2\n", 4, "a second document begins"),
    ("a colon without a space", "trainer:\n  nnodes:1\n  total_epochs: 3\n", None, "correct the syntax"),
    ("a control character", "seed: \x07\n", 3, "a character that YAML does not allow"),
    ("Python", "seed: !!python/object/apply:os.getcwd []\n", 3, "python/object/apply:os.getcwd is not for config"),
    ("a tag", "seed: !mine 3\n", 3, "the tag !mine is not for configurations; remove it"),
    ("binary", "seed: !!binary aGk=\n", 3, "2002:binary is not for configurations"),
    ("an anchor twice", "seed: &a 1\ntrainer: {nnodes: &a 2}\n", 4, "the anchor &a is there twice, first in line 3"),
    ("a list as a key", "[a, b]: 2\n", 3, "a key is a list; write a name, or quote it"),
    ("a mapping as a key", "{a: b}: 2\n", 3, "a key is a mapping; write a name, or quote it"),
    ("null as a key", "null: 2\n", 3, "a key is null; write a name, or quote it"),
    ("a merge of a number", "trainer: {<<: 3}\n", 3, "expected a mapping or list of mappings for merging"),
    ("a null character", "seed: \x00\n", 3, "a character that YAML does not allow"),
]


def _write(file, content) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(HEAD.encode() + (content if isinstance(content, bytes) else content.encode()))


@pytest.mark.parametrize(("content", "line", "says"), [case[1:] for case in UNSOUND], ids=[case[0] for case in UNSOUND])
@pytest.mark.parametrize("as_recipe", [True, False], ids=["recipe", "primary"])
def test_one_line_with_file_and_line(tmp_path, monkeypatch, reinforcepp, as_recipe, content, line, says):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine" / ("recipe/own.yaml" if as_recipe else "own.yaml")
    _write(file, content)
    arguments = ["+recipe=own"] if as_recipe else ["--config-name", "own"]
    start = time.monotonic()
    done = reinforcepp("check", "--config-dir", "mine", *arguments)
    assert time.monotonic() - start < 60
    assert done.exit_code == 2 and "Traceback" not in done.output, done.output
    [error] = [text for text in done.stderr.splitlines() if text.strip()]
    assert error.startswith("error: ") and "own.yaml" in error and says in error, error
    assert "line " in error
    if line is not None:
        assert f"own.yaml, line {line}: " in error, error


def test_a_byte_order_mark_that_hides_the_package(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_bytes(codecs.BOM_UTF8 + HEAD.encode())
    with pytest.raises(yaml_file.UnsoundYamlError, match=r"own\.yaml, line 1: a byte order mark begins it"):
        yaml_file.check(file)


@pytest.mark.parametrize(
    "reference", ["${{l{0}}}${{l{0}}}", "['${{l{0}}}', '${{l{0}}}']", "${{.l{0}}}${{oc.select:l{0}}}"]
)
def test_references_that_multiply(tmp_path, monkeypatch, reinforcepp, reference):
    monkeypatch.chdir(tmp_path)
    lines = [f"l{level + 1}: {reference.format(level)}\n" for level in range(40)]
    _write(tmp_path / "mine" / "recipe" / "own.yaml", "".join(["l0: x\n", *lines]))
    done = reinforcepp("check", "--config-dir", "mine", "+recipe=own")
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, done.output
    assert re.match(r"error: l1\d(?:\[0\])?: its references expand to more than 200000 characters", done.stderr)


@pytest.mark.parametrize("content", ["- a\n- b\n", "just text\n", "12\n"])
def test_a_configuration_is_a_mapping(tmp_path, content):
    file = tmp_path / "own.yaml"
    file.write_text(content)
    with pytest.raises(
        yaml_file.UnsoundYamlError,
        match=r"own\.yaml, line 1: (?:it is a list|this is not a mapping); .*, such as `seed: 1`",
    ):
        yaml_file.check(file)


def test_a_file_of_many_values(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("a: [" + ", ".join(["1"] * 80_000) + "]\n")
    with pytest.raises(yaml_file.UnsoundYamlError, match=r"it has 240004 bytes, at most 200000"):
        yaml_file.check(file)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "# only a comment\n",
        "\ufeffseed: 1\n",
        "a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}\n",
        "text: |\n  seed: 1\n  seed: 1\n  \tquoted: a tab in a text\n",
        "digits: '" + "9" * 6000 + "'\nhex: 0xff\nname: ${seed}_run\n",
    ],
)
def test_sound_files_pass(tmp_path, content):
    file = tmp_path / "own.yaml"
    file.write_text(content, encoding="utf-8")
    yaml_file.check(file)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("+x=" + "[" * 500 + "]" * 500, "nested 500 levels deep"),
        (f"seed={'9' * 5000}", "a number of 5000 digits"),
    ],
)
def test_an_extreme_override(reinforcepp, override, says):
    done = reinforcepp("check", "+recipe=math_rlvr/arithmetic", override)
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert says in done.stderr and len(done.stderr) < 300


@pytest.mark.parametrize(("content", "line", "says"), [case[1:] for case in UNSOUND[:9]])
def test_a_run_folder_with_an_unsound_configuration(compose, arithmetic, tmp_path, monkeypatch, content, line, says):
    monkeypatch.chdir(arithmetic)
    run = launch.new_run(compose("+recipe=math_rlvr/arithmetic", f"runs_dir={tmp_path}"))
    _write(run.config, content)
    with pytest.raises(ValueError, match=rf"config\.yaml, line {line or '[0-9]+'}: ") as refused:
        prepare(run, [])
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_the_file_of_the_agent_loops(compose, arithmetic, tmp_path, monkeypatch):
    from reinforcepp_verl.preflight import examine

    monkeypatch.chdir(arithmetic)
    file = tmp_path / "loops.yaml"
    file.write_text("- name: mine\n  name: other\n")
    key = "actor_rollout_ref.rollout.agent.agent_loop_config_path"
    [problem] = examine(compose("+recipe=math_rlvr/arithmetic", f"{key}={file}")).errors
    assert problem == f"{key} is {file}: {file}, line 2: the key name is there twice, first in line 1; remove one"


def test_a_model_configuration_nested_deep(compose, arithmetic, tmp_path, monkeypatch):
    from reinforcepp_verl.preflight import examine

    monkeypatch.chdir(arithmetic)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    (model / "tokenizer.json").write_text("{}")
    (model / "tokenizer_config.json").write_text('{"chat_template": "x", "tokenizer_class": "TokenizersBackend"}')
    found = examine(compose("+recipe=math_rlvr/arithmetic", f"actor_rollout_ref.model.path={model}")).errors
    assert found and all("\n" not in problem and "actor_rollout_ref.model.path" in problem for problem in found)
