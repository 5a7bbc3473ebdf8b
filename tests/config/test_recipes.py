"""Every shipped recipe passes the checks on the hardware it names, and its header is correct."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import DictConfig

from reinforcepp_verl.config import search_path
from reinforcepp_verl.preflight import examine
from reinforcepp_verl.preflight.data_files import PREPARED_FOLDERS
from reinforcepp_verl.sizing import recipe_list
from reinforcepp_verl.tasks import LANGUAGE_MODEL
from reinforcepp_verl.tasks.calculator_task import write_tools

ROOT = Path(__file__).parents[2]
RECIPES = search_path.recipe_names()
ON_A_CPU = (
    *("agents/calculator", "math_rlvr/arithmetic", "math_rlvr/running_sums", "math_rlvr/smollm2_cpu"),
    *("math_rlvr/sums_by_size", "math_rlvr/word_problems", "rlhf/length_bias_cpu"),
)
ON_GPUS = [name for name in RECIPES if name not in ON_A_CPU]
# The others need separate GPUs for the engines, or a reward model.
ALSO_ON_A_CPU = [name for name in ON_GPUS if "separate_async" not in name and not name.startswith("rlhf/")]


def problems(config, **where: bool) -> list[str]:
    """Return errors and warnings: a valid configuration has neither."""
    found = examine(config, **where)
    return [*found.errors, *map(str, found.warnings)]


def write_rows(file: Path, prompt: str, count: int) -> None:
    row = {
        "data_source": "made/up",
        "prompt": [{"role": "user", "content": prompt}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "1"},
        "extra_info": {"split": "train", "index": 0},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([row] * count), file)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, arithmetic, compose) -> Path:
    """A folder with every file that a recipe names, with enough rows for its steps."""
    root = tmp_path_factory.mktemp("prepared")
    rows_of: dict[str, int] = {}
    for recipe in RECIPES:
        config = compose(f"+recipe={recipe}")
        steps = config.trainer.total_training_steps or 1
        rows = config.data.train_batch_size * -(-steps // config.trainer.total_epochs)
        # The arithmetic task has short prompts and reads any text.
        short = config.data.max_prompt_length < 32 or "arithmetic" in config.data.train_files
        prompt = "1+1=" if short else r"How many? Answer in \boxed{}."
        for file, count in ((config.data.val_files, 8), (config.data.train_files, rows)):
            rows_of[file] = max(count, rows_of.get(file, 0))
            write_rows(root / file, prompt, rows_of[file])
        models = [config.actor_rollout_ref.model.path, config.reward.reward_model.model_path or ""]
        for model in (Path(given) for given in models if given.startswith("data/")):
            shutil.copytree(arithmetic / "data" / "arithmetic" / "model", root / model)
            settings = json.loads((root / model / "config.json").read_text())
            (root / model / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 4096}))
        if tools := config.actor_rollout_ref.rollout.multi_turn.tool_config_path:
            write_tools(root / tools)
    return root


@pytest.fixture
def in_prepared(prepared, monkeypatch) -> None:
    monkeypatch.chdir(prepared)


@pytest.fixture(scope="module")
def listed() -> list[recipe_list.Recipe]:
    return recipe_list.recipes()


def test_the_main_recipes_exist():
    assert len(ON_GPUS) >= 14
    assert {name.split("/")[0] for name in RECIPES} == {"agents", "math_rlvr", "rlhf"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_has_no_problems_on_the_machine_it_is_meant_for(recipe_as_meant, in_prepared, recipe):
    assert problems(recipe_as_meant(recipe), other_machine=True) == []


@pytest.mark.parametrize("recipe", ALSO_ON_A_CPU)
def test_recipe_has_no_problems_on_the_cpu_either(compose, in_prepared, recipe):
    assert problems(compose(f"+recipe={recipe}", "cluster=cpu")) == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_header_has_every_field_and_names_its_own_commands(compose, recipe):
    about, header = recipe_list.read_header(ROOT / "recipes" / f"{recipe}.yaml")
    assert about and set(header) == set(recipe_list.FIELDS)
    machine = compose(f"+recipe={recipe}").hardware.meant_for
    several_nodes = compose(f"+recipe={recipe}", f"cluster={machine}").trainer.nnodes > 1
    assert header["Train"] == f"reinforcepp {'slurm submit' if several_nodes else 'train'} +recipe={recipe}"
    for command in header["Prepare"].splitlines():
        tasks = "|".join(PREPARED_FOLDERS)
        known = rf"({tasks})( --against data/\w+)?|{LANGUAGE_MODEL} --warm-start ({tasks})"
        assert re.fullmatch(f"reinforcepp prepare ({known})", command), command


@pytest.mark.parametrize("recipe", RECIPES)
def test_header_prepares_the_data_that_the_recipe_reads(compose, recipe):
    _, header = recipe_list.read_header(ROOT / "recipes" / f"{recipe}.yaml")
    made = {command.split()[2] for command in header["Prepare"].splitlines()} - {LANGUAGE_MODEL}
    config: DictConfig = compose(f"+recipe={recipe}")
    assert made == {Path(file).parent.name for file in (config.data.train_files, config.data.val_files)}


@pytest.mark.parametrize("recipe", ON_GPUS)
def test_header_states_the_estimated_memory(listed, recipe):
    found = next(one for one in listed if one.name == recipe)
    assert found.header["Memory"] == f"about {found.memory_gib:.0f} GiB per GPU, estimated"


def test_readme_holds_the_table(listed):
    assert recipe_list.markdown(listed) in (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
