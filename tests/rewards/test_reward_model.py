"""What a reward function sends to the reward model's server, and what the recipe's function makes of the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from reinforcepp_verl.rewards.packing_list import compute_score
from reinforcepp_verl.rewards.reward_model import learned_score
from reinforcepp_verl.tasks.packing_model import build_tokenizer

TOKENIZER = build_tokenizer()
PROMPT = [{"role": "user", "content": "pack for beach and snow"}]


def with_server(ask: Callable[[str], Awaitable[Any]], status: int = 200) -> tuple[Any, list[dict]]:
    """Run `ask(address)` against a server that replies like vLLM's /classify; return its result and the requests."""
    requests: list[dict] = []

    async def classify(request: web.Request) -> web.Response:
        requests.append(await request.json())
        return web.json_response({"data": [{"index": 0, "probs": [1.25], "num_classes": 1}]}, status=status)

    async def serve() -> Any:
        application = web.Application()
        application.router.add_post("/classify", classify)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            return await ask(f"127.0.0.1:{runner.addresses[0][1]}")
        finally:
            await runner.cleanup()

    return asyncio.run(serve()), requests


def test_the_chat_is_sent_as_tokens_and_the_logit_returned():
    score, [request] = with_server(lambda address: learned_score(PROMPT, "hat tent", address, TOKENIZER))
    assert score == 1.25
    assert (
        request.pop("input")
        == TOKENIZER("<|im_start|> user pack for beach and snow <|im_end|> <|im_start|> assistant hat tent <|im_end|>")[
            "input_ids"
        ]
    )
    assert request == {"use_activation": False}


def test_an_error_of_the_server_is_raised():
    with pytest.raises(aiohttp.ClientResponseError, match="500"):
        with_server(lambda address: learned_score(PROMPT, "hat", address, TOKENIZER), status=500)


def test_the_true_quality_is_returned_beside_the_score():
    def ask(address: str) -> Awaitable[dict[str, float]]:
        given = {"reward_router_address": address, "reward_model_tokenizer": TOKENIZER}
        wanted = "towel hat sunscreen gloves scarf skis"
        return compute_score("packing", "towel hat hat tent", wanted, {"raw_prompt": PROMPT}, **given)

    row, _ = with_server(ask)
    assert row == {"score": 1.25, "quality": pytest.approx(2 / 6 - 0.2), "words": 4}
