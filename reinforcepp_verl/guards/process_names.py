"""The roles of the actors of a run, and how verl, Ray and the TransferQueue name them."""

from __future__ import annotations

import re

ENGINE, CONTROLLER, STORAGE_UNIT = "vLLM engine", "TransferQueue controller", "TransferQueue storage unit"
REWARD_WORKER, AGENT_LOOP_WORKER, FSDP_WORKER, TRAINER = "reward worker", "agent loop worker", "FSDP worker", "trainer"
ROLES = {
    ENGINE: re.compile(r"vllm_server_"),
    CONTROLLER: re.compile(r"TransferQueueController"),
    STORAGE_UNIT: re.compile(r"TransferQueueStorageUnit#\d+"),
    REWARD_WORKER: re.compile(r"reward_loop_worker_\d+"),
    AGENT_LOOP_WORKER: re.compile(r"agent_loop_worker_\d+"),
    FSDP_WORKER: re.compile(r"WorkerDict_\d+:\d+"),
    # The only unnamed actor: this is its class.
    TRAINER: re.compile(r"TaskRunner"),
}


def role_of(actor: str) -> str | None:
    """Return the role of an actor with this name; None for one that is not verl's."""
    return next((role for role, pattern in ROLES.items() if pattern.search(actor)), None)
