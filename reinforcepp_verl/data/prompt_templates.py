"""Prompt templates: the built-in ones, and a reader for your own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from reinforcepp_verl.common import yaml_file
from reinforcepp_verl.common.wording import did_you_mean
from reinforcepp_verl.data.rows import Message
from reinforcepp_verl.data.sources import DAPO_HEAD, DAPO_TAIL

PLACEHOLDER = "{question}"
BARE = "bare"


@dataclass(frozen=True)
class Template:
    """A user message with `{question}` in it, and optionally a system message."""

    name: str
    user: str
    system: str | None = None

    def chat(self, question: str) -> list[Message]:
        """Return the question as a chat."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        # Not str.format: templates and questions contain LaTeX braces.
        return [*system, {"role": "user", "content": self.user.replace(PLACEHOLDER, question)}]


# reasoning-gym's SYSTEM_PROMPTS: for evaluation ("default"), training ("DeepSeekZero") and short answers ("direct").
_ONLY_THE_ANSWER = (
    "Do not explain your reasoning inside the answer tags, provide only the final answer. When an example is provided, "
    "you should strictly follow the format of the output/answer in that example."
)
_ANSWER_TAGS = (
    "Given a problem, your task is to answer the question by thinking step-by-step in a clear and specific manner.\n"
    "Once you have thought about the reasoning process, provide the answer in the following format:\n"
    f"<answer>answer here</answer>\n{_ONLY_THE_ANSWER}"
)
_THINK_ANSWER_TAGS = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it.\n"
    "The assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
    "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, "
    f"i.e., <think> reasoning process here </think>\n<answer>answer here</answer>\n{_ONLY_THE_ANSWER}"
)
_DIRECT_ANSWER_TAGS = (
    "Answer the question directly. Provide your answer between <answer> and </answer> tags. Do not return any "
    "preamble, explanation, or reasoning."
)
_BOXED = r"Please reason step by step, and put your final answer within \boxed{}."
_TABLE = (
    Template("boxed", f"{PLACEHOLDER}\n{_BOXED}"),
    Template("boxed_system", PLACEHOLDER, system=_BOXED),  # Qwen2.5-Math's own
    Template("hashes", f'{PLACEHOLDER} Let\'s think step by step and output the final answer after "####".'),
    Template("answer_line", f"{DAPO_HEAD}{PLACEHOLDER}{DAPO_TAIL}"),  # DAPO's own
    Template("answer_tags", PLACEHOLDER, system=_ANSWER_TAGS),
    Template("think_answer_tags", PLACEHOLDER, system=_THINK_ANSWER_TAGS),
    Template("direct_answer_tags", PLACEHOLDER, system=_DIRECT_ANSWER_TAGS),
    Template(BARE, PLACEHOLDER),
)
TEMPLATES: Mapping[str, Template] = {template.name: template for template in _TABLE}


def find(name: str) -> Template:
    """Return the template of that name, or the one in the YAML file of that name."""
    if name in TEMPLATES:
        return TEMPLATES[name]
    file = Path(name).expanduser()
    if file.suffix not in (".yaml", ".yml"):
        known = ", ".join(TEMPLATES)
        raise ValueError(
            f"--template: no such template: {name}{did_you_mean(name, TEMPLATES)}; use one of {known}, "
            f"or a .yaml file with `user: ... {PLACEHOLDER} ...` and optionally `system: ...`"
        )
    return _read(file)


def _read(file: Path) -> Template:
    try:
        yaml_file.check(file, is_mapping=False)
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(TEMPLATES)
        raise ValueError(f"--template: no such file: {file}; write it, or use one of {known}") from None
    except yaml_file.UnsoundYamlError as error:
        raise ValueError(f"--template: {error}") from None
    except (yaml.YAMLError, OSError) as error:
        raise ValueError(f"--template: {file} is not valid YAML ({str(error).splitlines()[0]}); correct it") from None
    texts = content if isinstance(content, dict) else {}
    if not texts.keys() <= {"user", "system"} or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"--template: {file} must have the texts `user` and optionally `system`, and nothing else")
    if PLACEHOLDER not in texts.get("user", ""):
        raise ValueError(f"--template: {file} must have {PLACEHOLDER} in its text `user`, for the question")
    return Template(file.stem, texts["user"], texts.get("system"))
