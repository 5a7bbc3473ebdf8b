"""What we call the parts of a run, and how verl, Ray and the TransferQueue name their actors."""

from __future__ import annotations

import re

ENGINE, CONTROLLER, STORAGE_UNIT = "vLLM engine", "TransferQueue controller", "TransferQueue storage unit"
REWARD_WORKER, AGENT_LOOP_WORKER, FSDP_WORKER, TRAINER = "reward worker", "agent loop worker", "FSDP worker", "trainer"
TITLES = {
    ENGINE: re.compile(r"vllm_server_"),
    CONTROLLER: re.compile(r"TransferQueueController"),
    STORAGE_UNIT: re.compile(r"TransferQueueStorageUnit#\d+"),
    REWARD_WORKER: re.compile(r"reward_loop_worker_\d+"),
    AGENT_LOOP_WORKER: re.compile(r"agent_loop_worker_\d+"),
    FSDP_WORKER: re.compile(r"WorkerDict_\d+:\d+"),
    # The only one without a name: this is its class.
    TRAINER: re.compile(r"TaskRunner"),
}


def title_of(actor: str) -> str | None:
    """Return what we call an actor of this name; None for one that is not verl's."""
    return next((title for title, pattern in TITLES.items() if pattern.search(actor)), None)
