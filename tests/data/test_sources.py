"""The table of sources, the templates, and how rows are found in local files and on the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import datasets
import pytest
from verl.utils.reward_score import default_compute_score

from reinforcepp_verl.cli.prepare import Task
from reinforcepp_verl.data import loading, prompt_templates
from reinforcepp_verl.data.prepare_source import prepare, request
from reinforcepp_verl.data.rows import QUESTIONS
from reinforcepp_verl.data.source_kinds import Questions
from reinforcepp_verl.data.sources import SOURCES
from reinforcepp_verl.tasks import GENERATED, LANGUAGE_MODEL

FIXTURES = Path(__file__).parents[1] / "samples"
QUESTION_SOURCES = [source.name for source in SOURCES.values() if isinstance(source, Questions)]
WITHOUT_SCORER = {"deepscaler", "big_math", "open_r1_math", "numina_math", "numina_math_cot", "orz_math"}
GSM8K = SOURCES["gsm8k"]


def write(file: Path, rows: list[dict]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def questions(split: loading.Split) -> list[str]:
    return [row["question"] for row in split.rows()]


def test_command_offers_the_sources_of_the_table():
    assert {task.value for task in Task} == {*GENERATED, LANGUAGE_MODEL, "custom", "reasoning_gym", *SOURCES}
    assert {path.name for path in FIXTURES.iterdir() if path.is_dir()} == set(SOURCES)


def test_files_of_all_sources_can_be_mixed():
    for source in SOURCES.values():
        assert source.schema.names[: len(QUESTIONS)] == QUESTIONS.names
        assert all(source.schema.field(name).equals(QUESTIONS.field(name)) for name in QUESTIONS.names)


@pytest.mark.parametrize("name", QUESTION_SOURCES)
def test_verls_own_scorer_accepts_the_ground_truth_in_the_form_that_the_prompt_asks_for(name, tmp_path):
    prepare(request(name, source=str(FIXTURES / name)), tmp_path / "out")
    for file in (tmp_path / "out").glob("*.parquet"):
        for row in datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache")):
            truth = row["reward_model"]["ground_truth"]
            answer = f"#### {truth}" if "####" in row["prompt"][-1]["content"] else rf"\boxed{{{truth}}}"
            if name in WITHOUT_SCORER:  # verl has no scorer of that name: our own reward function is needed
                with pytest.raises(NotImplementedError):
                    default_compute_score(row["data_source"], answer, truth)
                continue
            scores = [default_compute_score(row["data_source"], text, truth) for text in (answer, r"\boxed{0} #### 0")]
            right, wrong = (score["score"] if isinstance(score, dict) else score for score in scores)
            assert right == 1.0 and wrong <= 0.0


def test_templates_fill_in_the_question_and_leave_latex_alone():
    question = r"What is $\frac{1}{2} + \text{question}$?"
    assert prompt_templates.find("boxed").chat(question) == [
        {
            "role": "user",
            "content": f"{question}\nPlease reason step by step, and put your final answer within \\boxed{{}}.",
        }
    ]
    assert [message["role"] for message in prompt_templates.find("boxed_system").chat(question)] == ["system", "user"]
    assert prompt_templates.find("bare").chat(question)[0]["content"] == question


def test_answer_line_is_the_prompt_that_dapo_came_with(tmp_path):
    raw = next(loading.load(SOURCES["dapo_math_17k"], str(FIXTURES / "dapo_math_17k"))["train"].rows())
    out = tmp_path / "out"
    prepare(request("dapo_math_17k", source=str(FIXTURES / "dapo_math_17k"), template="answer_line"), out)
    row = datasets.Dataset.from_parquet(str(out / "train.parquet"), cache_dir=str(tmp_path / "cache"))[0]
    assert row["prompt"][0]["content"] == raw["prompt"][0]["content"]


def test_template_of_a_users_own(tmp_path):
    file = tmp_path / "pirate.yaml"
    file.write_text('system: Talk like a pirate.\nuser: "Arr: {question}"\n')
    template = prompt_templates.find(str(file))
    assert (template.name, template.chat("1+1?")[1]["content"]) == ("pirate", "Arr: 1+1?")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("boxd", None, r"no such template: boxd \(did you mean boxed\?\); use one of boxed, .*or a .yaml file"),
        ("none.yaml", None, r"no such file: .*none.yaml; write it, or use one of boxed"),
        ("broken.yaml", "user: [", r"broken\.yaml, line \d+: .*; correct the syntax"),
        ("list.yaml", "[]", r"must have \{question\} in its text `user`"),
        ("more.yaml", "user: '{question}'\nassistant: a\n", r"must have the texts `user` and optionally `system`"),
        ("number.yaml", "user: 3\n", r"must have the texts"),
        ("lost.yaml", "user: Answer!\n", r"must have \{question\} in its text `user`, for the question"),
    ],
)
def test_template_that_cannot_be_used(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"^--template: .*{message}"):
        prompt_templates.find(str(tmp_path / name) if name.endswith("yaml") else name)


@pytest.mark.parametrize(("name", "subset"), [("gsm8k", "main"), ("math", "data")])
def test_folder_as_downloaded_from_the_hub_gives_one_subset(name, subset):
    splits = loading.load(SOURCES[name], str(FIXTURES / name))
    assert list(splits) == ["test", "train"]
    assert [file.parent.name for split in splits.values() for file in split.files] == [subset, subset]


@pytest.mark.parametrize(
    "names",
    [
        ["train.jsonl", "test.jsonl"],
        ["train.json", "test.json"],
        ["gsm8k-train.jsonl", "gsm8k_test.jsonl", "validation.jsonl"],
        ["train-00000-of-00002-0123456789abcdef.jsonl", "train-00001-of-00002-0123456789abcdef.jsonl", "test.jsonl"],
        ["default/train/train.jsonl", "default/test/test.jsonl", ".cache/train.jsonl", "notes/train.txt"],
    ],
)
def test_files_belong_to_the_split_that_they_are_named_after(tmp_path, names):
    for name in names:
        write(tmp_path / name, [{"question": name, "answer": "#### 1"}])
    splits = loading.load(GSM8K, str(tmp_path))
    visible = [name for name in names if not name.startswith(".") and name.endswith(("json", "jsonl"))]
    for split, found in splits.items():
        assert questions(found) == [name for name in visible if split in name]


def test_single_file_is_the_first_split_unless_its_name_names_another(tmp_path):
    file = write(tmp_path / "mine.jsonl", [{"question": "q", "answer": "#### 1"}])
    assert list(loading.load(GSM8K, str(file))) == ["train"]
    assert list(loading.load(SOURCES["math500"], str(file))) == ["test"]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_all_formats_give_the_same_rows_in_order(tmp_path, suffix):
    rows = [{"question": f"q{i}", "answer": f"#### {i}"} for i in range(2500)]
    file = tmp_path / f"train{suffix}"
    if suffix == ".json":
        file.write_text(json.dumps(rows, indent=1))
    elif suffix == ".jsonl":
        write(file, rows)
    else:
        datasets.Dataset.from_list(rows).to_parquet(file)
    assert list(loading.load(GSM8K, str(tmp_path))["train"].rows()) == rows


@pytest.mark.parametrize(
    ("files", "origin", "message"),
    [
        ([], "nowhere/train.jsonl", "--source: no such file or folder: .*nowhere/train.jsonl; correct it, or"),
        (["notes.txt"], "", "--source: .* has no file that ends in .parquet, .json, .jsonl, .csv .*; give another"),
        (["notes.txt"], "notes.txt", "--source: .*notes.txt is not a file that ends in"),
        (["dev.jsonl", "extra.jsonl"], "", "gsm8k: .* has no split train, only dev.jsonl, extra.jsonl; rename"),
        (["test.jsonl"], "", "gsm8k: .* has no split train, only test.jsonl"),
    ],
)
def test_local_source_without_rows_for_us(tmp_path, files, origin, message):
    for name in files:
        write(tmp_path / name, [{"question": "q", "answer": "#### 1"}])
    with pytest.raises(ValueError, match=f"^{message}"):
        loading.load(GSM8K, str(tmp_path / origin))


@pytest.mark.parametrize("name", ["train.parquet", "train.json", "train.jsonl"])
def test_file_that_cannot_be_read(tmp_path, name):
    (tmp_path / name).write_text("{no table")
    with pytest.raises(ValueError, match=rf"{name} cannot be read \(.*\); write it again"):
        questions(loading.load(GSM8K, str(tmp_path))["train"])


def test_hub_gives_the_subset_the_splits_and_the_revision_that_are_asked_for(monkeypatch):
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((*arguments, options["revision"]))
        splits = ("train_sft", "train_prefs", "test_prefs", "train", "test")
        return {split: datasets.Dataset.from_list([{"question": split, "answer": "#### 1"}]) for split in splits}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert questions(loading.load(GSM8K, None)["train"]) == ["train"]
    assert questions(loading.load(GSM8K, "me/mine@0123abc")["test"]) == ["test"]
    pairs = loading.load(SOURCES["preferences"], "HuggingFaceH4/ultrafeedback_binarized")
    assert [questions(found) for found in pairs.values()] == [["test_prefs"], ["train_prefs"]]
    assert asked == [
        ("openai/gsm8k", "main", None),
        ("me/mine", None, "0123abc"),
        ("HuggingFaceH4/ultrafeedback_binarized", None, None),
    ]


def test_unreachable_hub_names_the_workaround(monkeypatch):
    def load_dataset(*arguments, **options):
        raise ConnectionError("Couldn't reach 'openai/gsm8k' on the Hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ValueError) as caught:
        loading.load(GSM8K, None)
    assert str(caught.value) == (
        "gsm8k: openai/gsm8k cannot be loaded from the hub (Couldn't reach 'openai/gsm8k' on the Hub); without a "
        "network, download it elsewhere (hf download --repo-type dataset openai/gsm8k --local-dir DIR), copy it here "
        "and add --source DIR"
    )


def test_misspelled_folder_that_looks_like_a_hub_id_is_explained_as_both(monkeypatch):
    def load_dataset(*arguments, **options):
        raise FileNotFoundError("Dataset 'downloads/gsm' doesn't exist on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    message = (
        r"downloads/gsm is not a local file or folder, and cannot be loaded from the hub \(Dataset .* doesn't exist"
    )
    with pytest.raises(ValueError, match=message):
        loading.load(GSM8K, "downloads/gsm")


def test_identity_of_local_files_is_their_content_and_not_their_place(tmp_path):
    shutil.copytree(FIXTURES / "math500", tmp_path / "copy")
    here, there = (
        loading.identify(SOURCES["math500"], str(path)) for path in (FIXTURES / "math500", tmp_path / "copy")
    )
    assert here == there
    assert list(here["files"]) == ["test.jsonl"]
    (tmp_path / "copy" / "test.jsonl").write_text("{}\n")
    assert loading.identify(SOURCES["math500"], str(tmp_path / "copy")) != here
    assert loading.identify(GSM8K, None) == {"hub": "openai/gsm8k"}
