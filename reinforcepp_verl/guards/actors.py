"""The processes of a run that a watch can look at: which Ray actors they are, whether they died, how they are asked."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import state as ray_state

from reinforcepp_verl.guards.process_names import CONTROLLER, ENGINE, FSDP_WORKER, title_of

TRANSFER_QUEUE = "transfer_queue"
"""The namespace of its controller."""
BESIDE_THE_WORK = "_ray_system"
"""Ray's concurrency group for its own calls. An FSDP worker, which is no async actor, does not even answer there."""
ENGINE_ANSWERS_WITHIN_S = 20.0
# Of Ray's reasons for the end of an actor, those that nobody asked for; ray.kill and lost references are none.
UNEXPECTED = {
    "WORKER_DIED": "its process is gone: killed, out of memory, or crashed",
    "NODE_DIED": "its node is gone",
}
OUT_OF_MEMORY = "Ray killed it, because the memory of its node was full"


@dataclass(frozen=True)
class Part:
    """One process of the run, as Ray knows it."""

    title: str
    name: str
    pid: int
    address: str
    death: str | None
    """Why it died without having been asked to; None while it lives."""

    @property
    def can_be_asked(self) -> bool:
        """False for an FSDP worker: it works for minutes on one call, so that its silence says nothing."""
        return self.title != FSDP_WORKER

    def __str__(self) -> str:
        return f"{self.title} {self.name} (pid {self.pid} on {self.address})"


def engine_answers(server: Any) -> bool:
    """Call the engine process, which calls its workers; runs in the server's process, beside its event loop.

    Raises:
        AttributeError: verl's server has no engine yet; on a node that only holds workers it never has
    """
    question = server.engine.collective_rpc("check_health")
    answer = asyncio.run_coroutine_threadsafe(question, server._server_task.get_loop())
    try:
        answer.result(ENGINE_ANSWERS_WITHIN_S)
    except concurrent.futures.TimeoutError:
        answer.cancel()
        return False
    return True


def ask(part: Part) -> ray.ObjectRef:
    """Ask a part whether it is there; None of its work, however much is queued, comes before the answer.

    Raises:
        ValueError: it is gone
    """
    actor: Any = ray.get_actor(part.name, namespace=TRANSFER_QUEUE if part.title == CONTROLLER else None)
    if part.title == ENGINE:
        return actor.__ray_call__.options(concurrency_group=BESIDE_THE_WORK).remote(engine_answers)
    return actor.__ray_ready__.options(concurrency_group=BESIDE_THE_WORK).remote()


def find_parts() -> Iterator[Part]:
    """Yield the parts of this job that live, and those that died without having been asked to.

    Ray's documented way, `ray.util.state`, needs a dashboard; a run of ours starts none.
    """
    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    for actor in ray_state.actor_table(None, job).values():
        title, death = title_of(actor["Name"]), _death(actor)
        if title is not None and (actor["State"] == "ALIVE" or death is not None):
            yield Part(title, actor["Name"], actor["Pid"], actor["Address"]["IPAddress"], death)


def _death(actor: dict[str, Any]) -> str | None:
    cause = actor["DeathCause"]
    if actor["State"] != "DEAD":
        return None
    if cause.HasField("oom_context"):
        return OUT_OF_MEMORY
    died = cause.actor_died_error_context
    return UNEXPECTED.get(died.Reason.Name(died.reason))
