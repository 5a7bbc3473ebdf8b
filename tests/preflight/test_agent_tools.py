"""Mistakes with tools and agent loops, which verl reports in a worker or not at all."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reinforcepp_verl.config.schema import compose_base as compose
from reinforcepp_verl.preflight import agent_tools, tool_import, tool_probe
from reinforcepp_verl.tasks import calculator_task
from reinforcepp_verl.tasks.question_files import write_questions

RECIPE, PLAIN = "+recipe=agents/calculator", "+recipe=math_rlvr/arithmetic"
ROLLOUT = "actor_rollout_ref.rollout"
MULTI_TURN = f"{ROLLOUT}.multi_turn"
TOOLS, FUNCTIONS = f"{MULTI_TURN}.tool_config_path", f"{MULTI_TURN}.function_tool_path"
FORMAT = f"{MULTI_TURN}.format"
LOOP, LOOPS = f"{ROLLOUT}.agent.default_agent_loop", f"{ROLLOUT}.agent.agent_loop_config_path"
GOOD_TOOL = "{class_name: reinforcepp_verl.integration.calculator_tool.CalculatorTool, config: {type: native}}"
MY_TOOLS = '''
from verl.tools.function_tool import function_tool

@function_tool
def double(number: float) -> str:
    """Doubles a number.

    Args:
        number: The number.
    """
    return str(2 * number)
'''


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    """A folder with the calculator's tools, and data that names no agent loop."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "calculator"
    folder.mkdir(parents=True)
    calculator_task.write_tools(folder / "tools.yaml")
    for split in ("train", "val"):
        write_questions(calculator_task.DATA_SOURCE, calculator_task.questions(4, 1), split, folder)


def name_agent_loops(*names: str | None) -> None:
    for split in ("train", "val"):
        file = Path("data", "calculator", f"{split}.parquet")
        rows = pq.read_table(file).to_pylist()[: len(names)]
        pq.write_table(
            pa.Table.from_pylist([{**row, "agent_name": n} for row, n in zip(rows, names, strict=True)]), file
        )


def messages(*overrides: str, recipe: str = RECIPE) -> list[str]:
    return [str(found) for found in agent_tools.check(compose(recipe, *overrides))]


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        (RECIPE, ()),
        (PLAIN, ()),
        (RECIPE, (f"{TOOLS}=null", f"{LOOP}=single_turn_agent", f"{MULTI_TURN}.enable=false")),
        (RECIPE, (f"{LOOP}=my_loop", f"{MULTI_TURN}.enable=false")),
        (RECIPE, ("data.custom_cls.path=mine.py", f"{LOOP}=single_turn_agent")),
    ],
)
def test_sound_configurations(recipe, overrides):
    assert messages(*overrides, recipe=recipe) == []


@pytest.mark.parametrize(
    ("overrides", "problem", "fix"),
    [
        ([f"{LOOP}=single_turn_agent"], f"{TOOLS} is data/calculator/tools.yaml, but", f"set {LOOP}=tool_agent"),
        ([f"{TOOLS}=null"], "there are no tools", f"set {TOOLS} or {FUNCTIONS}, or {LOOP}=single_turn_agent"),
        ([f"{MULTI_TURN}.enable=false"], "multi_turn.enable is false", "multi_turn.enable=true"),
        ([f"{TOOLS}=null", f"{LOOP}=single_turn_agent"], "multi_turn.enable is true", f"set {LOOP}=tool_agent"),
        ([f"{TOOLS}=other.yaml"], f"missing_files: {TOOLS}: no such file: other.yaml", "create it"),
        ([f"{TOOLS}=data/math/tools.yaml"], "no such file", "run `reinforcepp prepare math`"),
        ([f"{LOOPS}=loops.yaml"], f"missing_files: {LOOPS}: no such file: loops.yaml", "create it"),
        (["data.tool_config_path=null"], "unmeasured_tools: data.tool_config_path is", "=data/calculator/tools.yaml"),
    ],
)
def test_contradictions_and_missing_files(overrides, problem, fix):
    [message] = messages(*overrides)
    assert problem in message and fix in message


def test_rows_may_name_their_agent_loop():
    name_agent_loops("tool_agent", None)
    assert messages(f"{LOOP}=single_turn_agent") == []
    name_agent_loops("single_turn_agent", "single_turn_agent")
    [message] = messages()
    assert "data.train_files: data/calculator/train.parquet names the agent loop single_turn_agent" in message
    name_agent_loops("tool_agent")
    [message] = messages(f"{TOOLS}=null", f"{LOOP}=single_turn_agent")
    assert (
        "data.train_files: data/calculator/train.parquet names the agent loop tool_agent, but there are no tools"
        in message
    )


def problems(*overrides: str) -> list[tuple[str, str]]:
    """Ask the probe in this process, which has imported verl already."""
    request = tool_import.request_for(compose(RECIPE, *overrides))
    assert request is not None
    return list(tool_probe.problems(request))


def tools_file(*tools: str) -> str:
    Path("mine.yaml").write_text(f"tools: [{', '.join(tools)}]\n")
    return f"{TOOLS}=mine.yaml"


def test_nothing_is_imported_for_one_turn_or_without_the_files():
    assert tool_import.request_for(compose(PLAIN)) is None
    assert tool_import.request_for(compose(RECIPE, f"{TOOLS}=missing.yaml")) is None


def test_the_recipe_and_function_tools_load():
    Path("my_tools.py").write_text(MY_TOOLS)
    assert problems(f"{FUNCTIONS}=my_tools.py") == []


@pytest.mark.long  # it imports verl again
def test_a_process_of_its_own_reports_each_setting():
    found = tool_import.check(compose(RECIPE, tools_file("{class_name: no_such_module.Tool}"), f"{FORMAT}=hermess"))
    assert [message.split(":")[0] for message in found] == [f"{FORMAT} is hermess", f"{TOOLS} is mine.yaml"]
    assert f"{FORMAT} is hermess: verl has no tool parser hermess; known names:" in found[0] and "hermes," in found[0]
    assert "the import of no_such_module fails with ModuleNotFoundError" in found[1]


def test_tools_that_cannot_be_found():
    wrong = ("{config: {type: native}}", "{class_name: no_such_module.Tool, config: {type: native}}")
    wrong += ("{class_name: reinforcepp_verl.integration.calculator_tool.Calculator, config: {type: native}}",)
    wrong += (GOOD_TOOL.replace("native", "mcp"), "{class_name: Tool, config: {type: native}}")
    found = problems(tools_file(*wrong))
    assert {name for name, _ in found} == {"tool_config_path"}
    for message, part in zip(
        (message for _, message in found),
        (
            "a tool has no class_name: {'config': {'type': 'native'}}; name its class",
            "the import of no_such_module fails with ModuleNotFoundError",
            "reinforcepp_verl.integration.calculator_tool has no class Calculator; correct the name",
            "CalculatorTool has no config with type: native; add it",
            "Tool has no module; name the class as in my_tools.Tool",
        ),
        strict=True,
    ):
        assert part in message


def test_agent_loops_that_cannot_be_found():
    name_agent_loops("tool_agent", "tool_agnt")
    Path("loops.yaml").write_text("- {name: mine, _target_: no_such_module.Loop}\n- {name: nameless}\n")
    first, second, third = problems(f"{LOOPS}=loops.yaml")
    assert first[0] == second[0] == "agent_loop_config_path"
    assert "the import of no_such_module fails" in first[1]
    assert second[1] == "an entry has no name or no _target_: {'name': 'nameless'}; give it both"
    assert third[0] == "agent_loops" and "no agent loop tool_agnt; known names: mine, single_turn_agent" in third[1]


def test_files_that_cannot_be_read_are_named_by_their_setting():
    Path("loops.yaml").write_text("- {name: mine\n")
    [(name, message)] = problems(f"{LOOPS}=loops.yaml")
    assert name == "agent_loop_config_path" and "it must be a list, each entry with name and _target_" in message
    Path("mine.yaml").write_text("tools: [\n")
    [(name, message)] = problems(f"{TOOLS}=mine.yaml")
    assert name == "tool_config_path" and "ParserError" in message


def test_tools_that_refuse_their_options_that_are_there_twice_or_are_none():
    [(_, message)] = problems(tools_file(GOOD_TOOL.replace("native", "native, max_operation: 1")))
    assert "loading the tools fails with TypeError" in message and "max_operation" in message
    [(_, message)] = problems(tools_file(GOOD_TOOL, GOOD_TOOL))
    assert message == "two tools are called calculator, and verl uses the last; rename one"
    Path("mine.yaml").write_text("tools:\n")
    [(_, message)] = problems(f"{TOOLS}=mine.yaml")
    assert "it has no list `tools`" in message
    Path("empty.py").write_text("")
    [(name, message)] = problems(f"{TOOLS}=null", f"{FUNCTIONS}=empty.py")
    assert name == "function_tool_path" and "decorate a function with verl's @function_tool" in message
