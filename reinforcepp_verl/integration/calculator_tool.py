"""The calculator of the calculator task as a tool of verl's agent loop.

Hook: `class_name` in the file that `actor_rollout_ref.rollout.multi_turn.tool_config_path` names.
"""

from __future__ import annotations

from typing import Any

from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from reinforcepp_verl.tasks.calculator import CalculatorLimits
from reinforcepp_verl.tasks.calculator_question import TOOL, observation

SCHEMA = {
    "type": "function",
    "function": {
        "name": TOOL,
        "description": "Computes an arithmetic expression.",
        "parameters": {
            "type": "object",
            "properties": {
                "expression": {"type": "string", "description": "Decimal numbers with + - * / and parentheses."}
            },
            "required": ["expression"],
        },
    },
}


class CalculatorTool(BaseTool):
    """Computes an expression; the keys of its `config`, besides verl's `type`, are those of CalculatorLimits."""

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None) -> None:
        super().__init__(config, tool_schema or OpenAIFunctionToolSchema.model_validate(SCHEMA))
        self.limits = CalculatorLimits(**{name: limit for name, limit in config.items() if name != "type"})

    async def execute(
        self, instance_id: str, parameters: dict[str, Any], **kwargs: Any
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        """Return the value or an error as text; the tool itself gives no reward."""
        # The model wrote the parameters: they may be any JSON.
        expression = parameters.get("expression") if isinstance(parameters, dict) else None
        text = observation(expression if isinstance(expression, str) else "", self.limits)
        return ToolResponse(text=text), 0.0, {}
