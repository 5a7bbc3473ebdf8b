"""reasoning-gym: what `prepare reasoning_gym` writes and refuses, and its verifiers as a reward."""

from __future__ import annotations

import inspect
import json
import re
import string
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from typer.testing import CliRunner
from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
from verl.trainer.ppo.reward import get_custom_reward_fn, resolve_reward_manager_cls
from verl.utils.dataset.rl_dataset import RLHFDataset

from reinforcepp_verl.cli import app
from reinforcepp_verl.common import entry_json
from reinforcepp_verl.data.prompt_templates import TEMPLATES
from reinforcepp_verl.preflight import data_files, reward_function
from reinforcepp_verl.rewards import gym_package, gym_verifier
from reinforcepp_verl.rewards.failures import error_flags
from reinforcepp_verl.rewards.reasoning_gym import compute_score
from reinforcepp_verl.tasks import gym_config, gym_task
from reinforcepp_verl.tasks.gym_questions import DRAWS_PER_QUESTION, draw
from reinforcepp_verl.tasks.small_tokenizer import of_characters

if find_spec("reasoning_gym") is None:
    pytest.skip("the extra reasoning_gym is not installed", allow_module_level=True)

ROOT = Path(__file__).parents[2]
TASKS = {"chain_sum": '{"max_terms": 3}', "spell_backward": "{}", "knights_knaves": "{}"}
NO_ANSWER = ("boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour")
"""Tasks whose entries name no right answer."""
TOKENIZER = of_characters(string.printable)


def prepare(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["prepare", "reasoning_gym", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gym") / "data"
    options = "--tasks", ",".join(TASKS), "--size", 6, "--val-size", 3, "--config", "chain_sum.max_terms=3"
    assert "+reward_function=reasoning_gym data.train_files=" in prepare(*options, "--out", folder)
    return folder


def rows(folder: Path, split: str) -> list[dict]:
    return pq.read_table(folder / f"{split}.parquet").to_pylist()


def score(row: dict, answer: str, **options) -> dict:
    return compute_score(row["data_source"], answer, row["reward_model"]["ground_truth"], row["extra_info"], **options)


def row_of(task: str) -> dict:
    """Return a question as the reward gets it."""
    [question] = draw(task, {}, seed=1, size=1, val_size=1).val
    extra_info = {"config": "{}", "entry": question.entry}
    return {
        "data_source": f"reasoning_gym/{task}",
        "reward_model": {"ground_truth": question.answer},
        "extra_info": extra_info,
    }


def test_the_rows_hold_what_the_verifier_reads(prepared):
    train, val = rows(prepared, "train"), rows(prepared, "val")
    assert (len(train), len(val)) == (18, 9)
    for row in train + val:
        task = row["data_source"].removeprefix("reasoning_gym/")
        extra_info, entry = row["extra_info"], entry_json.loads(row["extra_info"]["entry"])
        assert row["prompt"] == TEMPLATES["answer_tags"].chat(entry["question"])
        assert row["reward_model"] == {"style": "rule", "ground_truth": entry["answer"]}
        assert extra_info["config"] == TASKS[task]
        assert entry_json.loads(extra_info["difficulty"]) == entry["metadata"]["difficulty"]
    questions = [row["extra_info"]["question"] for row in train + val]
    assert len(set(questions)) == 27, "validation has a question of training, or one occurs twice"
    assert [row["extra_info"]["index"] for row in train] == list(range(18))
    terms = {entry_json.loads(row["extra_info"]["difficulty"]).get("num_terms") for row in train}
    assert terms == {(2, 3), None}


def test_it_is_kept_and_not_replaced_by_another(prepared):
    before = (prepared / "train.parquet").stat()
    options = "--tasks", ",".join(TASKS), "--size", 6, "--val-size", 3, "--out", prepared
    prepare(*options, "--config", "chain_sum.max_terms=3")
    assert (prepared / "train.parquet").stat() == before
    result = CliRunner().invoke(app, ["prepare", "reasoning_gym", *map(str, options)])
    assert result.exit_code == 2 and "prepared with a different tasks; choose another --out" in result.stderr


def test_the_same_seed_gives_the_same_questions_and_another_seed_gives_others():
    first, again, other = (draw("chain_sum", {}, seed, size=20, val_size=5) for seed in (1, 1, 2))
    assert first == again
    assert not {each.text for each in first.train + first.val} & {each.text for each in other.train + other.val}
    larger = draw("chain_sum", {}, seed=1, size=30, val_size=5)
    assert larger.val == first.val and larger.train[:20] == first.train


def test_a_task_that_repeats_itself_stays_smaller():
    config = {"min_trials": 3, "max_trials": 3}
    found = draw("coin_flip", config, seed=1, size=20, val_size=4)
    texts = [question.text for question in found.val + found.train]
    assert len(set(texts)) == len(texts) == 8, "at least or exactly 0 to 3 heads"
    assert len(found.val) == 4 and found.draws > DRAWS_PER_QUESTION * 20


REFUSED = [
    ({}, "reasoning_gym needs --tasks: names separated by commas"),
    ({"tasks": "chain_sums"}, "no task 'chain_sums' (did you mean chain_sum?)"),
    ({"tasks": "composite"}, "no task 'composite'"),
    ({"tasks": "lcm", "size": 0}, "--size is 0: it must be a number of questions"),
    ({"tasks": "lcm", "val_size": 0.1}, "--val-size is 0.1: it must be a number of questions"),
    ({"tasks": "lcm", "config": ["max_value=3"]}, "--config max_value=3: write TASK.KEY=VALUE"),
    ({"tasks": "lcm", "config": ["lcm.max_value"]}, "--config lcm.max_value: write TASK.KEY=VALUE"),
    ({"tasks": "lcm", "config": ["lcd.max_value=3"]}, "lcd is not in --tasks (did you mean lcm?)"),
    ({"tasks": "lcm", "config": ["lcm.max_valu=3"]}, "lcm has no setting 'max_valu' (did you mean max_value?); it has"),
    ({"tasks": "lcm", "config": ["lcm.seed=3"]}, "use --seed, which applies to every task"),
    ({"tasks": "lcm", "config": ["lcm.max_value=x"]}, "max_value must be of type int, as its default 100"),
    ({"tasks": "lcm", "config": ["lcm.max_value=[1"]}, "is not valid YAML"),
    ({"tasks": "lcm", "config": ["lcm.max_value=0"]}, "--config: lcm refuses max_value=0: max_value must be"),
    ({"tasks": "lcm", "template": "answer_tag"}, "no such template: answer_tag (did you mean answer_tags?)"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[case[1] for case in REFUSED])
def test_a_mistake_is_one_line_with_the_fix(options, message):
    with pytest.raises(ValueError) as error:
        gym_task.request(**options)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_values_take_the_type_of_the_default():
    settings = gym_config.read_settings(["spell_backward.min_word_len=4", "acre.train=0"], ["spell_backward", "acre"])
    assert settings == {"spell_backward": {"min_word_len": 4}, "acre": {"train": 0}}
    [settings] = gym_config.read_settings(["number_filtering.min_value=-5"], ["number_filtering"]).values()
    assert settings == {"min_value": -5.0} and isinstance(settings["min_value"], float)


def test_without_the_package_a_line_says_how_to_install_it(monkeypatch, compose):
    monkeypatch.setattr(gym_package, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="is not installed; run `pip install reasoning-gym`"):
        gym_task.request("lcm")
    [problem] = reward_function.check(compose("+recipe=math_rlvr/arithmetic", "+reward_function=reasoning_gym"))
    assert "is not installed; run `pip install reasoning-gym`" in problem


def test_options_of_other_tasks_are_refused():
    for arguments, message in (
        (("reasoning_gym", "--source", "x", "--tasks", "lcm"), "reasoning_gym does not use --source"),
        (("gsm8k", "--tasks", "lcm"), "gsm8k does not use --tasks"),
    ):
        result = CliRunner().invoke(app, ["prepare", *arguments])
        assert result.exit_code == 2 and message in result.stderr


def test_the_templates_are_those_of_the_package():
    from reasoning_gym.utils import SYSTEM_PROMPTS

    names = {"answer_tags": "default", "think_answer_tags": "DeepSeekZero", "direct_answer_tags": "direct"}
    for ours, theirs in names.items():
        assert TEMPLATES[ours].system == SYSTEM_PROMPTS[theirs].strip()


def test_the_page_lists_every_task():
    page = (ROOT / "docs" / "reasoning_gym.md").read_text()
    assert {task for task in gym_config.known_tasks() if f"`{task}`" not in page} == set()


def load(folder: Path, split: str, cache: Path) -> RLHFDataset:
    options = {"max_prompt_length": 20_000, "filter_overlong_prompts_workers": None, "cache_dir": str(cache)}
    return RLHFDataset(str(folder / f"{split}.parquet"), TOKENIZER, OmegaConf.create(options))


def test_verl_and_the_check_read_the_files(prepared, tmp_path, compose):
    data_set = load(prepared, "train", tmp_path)
    assert len(data_set) == 18 and entry_json.loads(data_set[0]["extra_info"]["entry"])["metadata"]
    files = [f"data.{split}_files={prepared}/{split}.parquet" for split in ("train", "val")]
    config = compose(
        "+recipe=math_rlvr/arithmetic", "+reward_function=reasoning_gym", *files, "data.train_batch_size=6"
    )
    assert data_files.check(config) == reward_function.check(config) == []


def test_the_verifier_scores_answers_in_verls_reward_worker(prepared, compose):
    """With the function and the manager that the configuration selects."""
    config = compose("+recipe=math_rlvr/arithmetic", "+reward_function=reasoning_gym")
    worker = RewardLoopWorker.__new__(RewardLoopWorker)
    worker.config = config
    worker.reward_manager = resolve_reward_manager_cls(config)(
        config=config,
        tokenizer=TOKENIZER,
        compute_score=get_custom_reward_fn(config),
        reward_router_address=None,
        reward_model_tokenizer=None,
    )
    for row in rows(prepared, "val"):
        truth = row["reward_model"]["ground_truth"]
        right, wrong, untagged = f"so <answer>{truth}</answer>", "<answer>no</answer>", f"so {truth}"
        found = [_scored(worker, row, text) for text in (right, wrong, untagged)]
        assert [each["acc"] for each in found] == [1.0, 0.0, 0.0]
        assert found[0]["score"] == 1.0 > found[1]["score"]
        assert [each["format"] for each in found] == [1.0, 1.0, 0.0]
        assert [each["reward_no_answer"] for each in found] == [0.0, 0.0, 1.0]
        assert [each["reward_error"] for each in found] == [0.0, 0.0, 0.0]


def _scored(worker: RewardLoopWorker, row: dict, answer: str) -> dict:
    ids = torch.tensor([[*TOKENIZER.encode(answer, add_special_tokens=False), TOKENIZER.eos_token_id]])
    tensors = {"prompts": torch.ones(1, 1), "responses": ids, "attention_mask": torch.ones(1, ids.shape[1] + 1)}
    objects = {name: np.array([row[name]], dtype=object) for name in ("data_source", "reward_model", "extra_info")}
    objects |= {"response_len": np.array([ids.shape[1]]), "__num_turns__": np.array([2])}
    objects |= {"tool_extra_fields": np.array([{}], dtype=object)}
    data = DataProto(batch=TensorDict(tensors, batch_size=1), non_tensor_batch=objects)
    result = worker.reward_manager.loop.run_until_complete(worker.compute_score(data))
    assert result["reward_score"] == result["reward_extra_info"]["score"]
    return result["reward_extra_info"]


@pytest.mark.parametrize(
    ("text", "options", "pred", "tagged"),
    [
        ("<answer>1</answer> <answer> 2\n</answer>!", {}, "2", 1.0),
        ("<answer>1 <answer>2</answer>", {}, "2", 1.0),
        ("<think><answer>1</answer>", {}, "", 0.0),
        ("<think>a</think><answer>2</answer>", {}, "2", 1.0),
        ("<think><answer>1</answer>", {"skip_thinking": False}, "1", 1.0),
        ("<answer>1", {"whole_text": True}, "", 0.0),
        (" 12 ", {"whole_text": True}, "12", 0.0),
        ("<answer> </answer>", {}, "", 0.0),
        ("<answer>" * 5000, {}, "", 0.0),
    ],
)
def test_what_is_taken_for_the_answer(text, options, pred, tagged):
    found = score(row_of("chain_sum"), text, **options)
    assert (found["pred"], found["format"]) == (pred, tagged)
    assert found["error"] == ("" if pred else "no answer")


def test_a_part_of_the_score_and_a_reward_for_the_format():
    row = row_of("chain_sum")
    truth = row["reward_model"]["ground_truth"]
    found = score(row, f"<answer>{'x' * len(truth)}{truth}</answer>", format_reward=0.25)
    assert (found["score"], found["acc"]) == (0.75, 0.0)


def test_an_answer_that_hangs_its_verifier_costs_its_limit():
    row = row_of("countdown")
    found = score(row, "<answer>9**9**9</answer>", time_limit_s=1.0)
    assert (found["score"], found["acc"], found["error"]) == (0.0, 0.0, "timeout")
    assert error_flags(found["error"])["reward_error"] == 1.0
    assert score(row, f"<answer>{row['reward_model']['ground_truth']}</answer>", time_limit_s=1.0)["acc"] == 1.0


def test_text_on_which_a_verifier_raises_is_wrong_and_no_error():
    found = score(row_of("prime_factorization"), "<answer>two</answer>")
    assert (found["score"], found["error"]) == (0.0, "not parsed")
    assert error_flags(found["error"])["reward_error"] == 0.0


@pytest.mark.parametrize("task", sorted(gym_verifier.EVALUATE | gym_verifier.PARSE))
def test_no_verifier_runs_code_of_an_answer(task, tmp_path):
    row, file = row_of(task), tmp_path / "made"
    for code in (f"__import__('os').mkdir({str(file)!r})", f"open({str(file)!r}, 'w')", "exec(chr(49))"):
        assert score(row, f"<answer>{code}</answer>")["acc"] == 0.0
    assert not file.exists()
    assert score(row, "<answer>entry['metadata']['valid_answers'][0]</answer>")["score"] <= 0.01
    truth = row["reward_model"]["ground_truth"]
    assert score(row, f"<answer>{truth}</answer>")["acc"] == float("Integral" not in truth)


def test_the_tasks_that_evaluate_text_are_known():
    """A new version may have more of them. The others evaluate only text of their own."""
    own_text = {"basic_arithmetic", "bitwise_arithmetic", "codeio", "decimal_arithmetic", "number_sorting"}
    own_text |= {"gsm_symbolic", "propositional_logic"}
    found = set()
    for task in gym_config.known_tasks():
        module = inspect.getmodule(gym_package.factory().DATASETS[task][0])
        if re.search(r"\b(eval|exec|parse_expr|sympify|S)\(|pickle|subprocess", inspect.getsource(module)):
            found.add(task)
    assert found - own_text == gym_verifier.EVALUATE | gym_verifier.PARSE


def test_the_unevaluated_integral_of_the_question_is_not_an_answer():
    row = row_of("simple_integration")
    integrand = entry_json.loads(row["extra_info"]["entry"])["metadata"]["integrand"]
    assert score(row, f"<answer>Integral({integrand}, x)</answer>")["score"] == 0.0


def test_a_row_of_another_data_set_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="was not written by `reinforcepp prepare reasoning_gym`"):
        compute_score("gsm8k", "<answer>1</answer>", "1", {})


def test_scoring_does_not_import_the_package_into_the_callers_process():
    code = "import sys, reinforcepp_verl.rewards.reasoning_gym; sys.exit('reasoning_gym' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gym") / "all"
    prepare("--tasks", "all", "--size", 2, "--val-size", 1, "--out", folder)
    return folder


@pytest.mark.long
def test_every_task_gives_the_same_bytes_again(everything, tmp_path):
    prepare("--tasks", "all", "--size", 2, "--val-size", 1, "--out", tmp_path / "again")
    for file in json.loads((everything / "manifest.json").read_text())["files"]:
        assert (everything / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


@pytest.mark.long
def test_every_task_verifies_its_own_answers_and_loads_in_verl(everything, tmp_path):
    for split, count in (("train", 2), ("val", 1)):
        found = rows(everything, split)
        assert len(load(everything, split, tmp_path)) == len(found) == count * len(gym_config.known_tasks())
        for row in found:
            task, truth = row["data_source"].removeprefix("reasoning_gym/"), row["reward_model"]["ground_truth"]
            if "Integral" in truth:
                continue
            right, wrong = (score(row, f"<answer>{text}</answer>") for text in (truth, "?!"))
            assert right["error"] == ("no answer" if task in NO_ANSWER else ""), task
            assert right["acc"] == float(task not in NO_ANSWER), task
            assert wrong["acc"] == 0.0 and wrong["score"] < 1.0, task
            assert wrong["error"] in ("", "not parsed"), task


@pytest.mark.long
def test_the_page_shows_what_the_tasks_draw():
    command = [sys.executable, "tools/write_gym_tasks.py", "--check"]
    subprocess.run(command, cwd=ROOT, check=True)
