"""The Ray actors of a run that the watchdog checks: how to find them, their cause of death, and their health checks."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import state as ray_state

from reinforcepp_verl.guards.process_names import CONTROLLER, ENGINE, FSDP_WORKER, role_of

TRANSFER_QUEUE_NAMESPACE = "transfer_queue"
"""That of its controller."""
SYSTEM_CONCURRENCY_GROUP = "_ray_system"
"""Ray's concurrency group for its own calls. An FSDP worker does not answer even there: it is not an async actor."""
ENGINE_TIMEOUT_S = 20.0
# Ray's reasons for an unexpected end of an actor; ray.kill and lost references are not among them.
UNEXPECTED_DEATHS = {
    "WORKER_DIED": "its process is gone: killed, out of memory, or crashed",
    "NODE_DIED": "its node is gone",
}
OUT_OF_MEMORY = "Ray killed it, because the memory of its node was full"


@dataclass(frozen=True)
class RunActor:
    """One actor of the run, as Ray knows it."""

    role: str
    name: str
    pid: int
    address: str
    death: str | None
    """Why it died unexpectedly; None while it is alive."""

    @property
    def answers_health_checks(self) -> bool:
        """False for an FSDP worker: it works on one call for minutes and does not answer meanwhile."""
        return self.role != FSDP_WORKER

    def __str__(self) -> str:
        return f"{self.role} {self.name} (pid {self.pid} on {self.address})"


def engine_is_healthy(server: Any) -> bool:
    """Call the engine process, which calls its workers; runs in the server's process, concurrently with its event loop.

    Raises:
        AttributeError: verl's server has no engine yet; on a node with workers only it never has one
    """
    call = server.engine.collective_rpc("check_health")
    answer = asyncio.run_coroutine_threadsafe(call, server._server_task.get_loop())
    try:
        answer.result(ENGINE_TIMEOUT_S)
    except concurrent.futures.TimeoutError:
        answer.cancel()
        return False
    return True


def health_check(actor: RunActor) -> ray.ObjectRef:
    """Send a health check to an actor; it is answered before any queued work.

    Raises:
        ValueError: the actor does not exist anymore
    """
    handle: Any = ray.get_actor(actor.name, namespace=TRANSFER_QUEUE_NAMESPACE if actor.role == CONTROLLER else None)
    if actor.role == ENGINE:
        return handle.__ray_call__.options(concurrency_group=SYSTEM_CONCURRENCY_GROUP).remote(engine_is_healthy)
    return handle.__ray_ready__.options(concurrency_group=SYSTEM_CONCURRENCY_GROUP).remote()


def find_actors() -> Iterator[RunActor]:
    """Yield the actors of this job that are alive, and those that died unexpectedly.

    Ray's documented API, `ray.util.state`, needs a dashboard, which our runs do not start.
    """
    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    for actor in ray_state.actor_table(None, job).values():
        role, death = role_of(actor["Name"]), _death(actor)
        if role is not None and (actor["State"] == "ALIVE" or death is not None):
            yield RunActor(role, actor["Name"], actor["Pid"], actor["Address"]["IPAddress"], death)


def _death(actor: dict[str, Any]) -> str | None:
    cause = actor["DeathCause"]
    if actor["State"] != "DEAD":
        return None
    if cause.HasField("oom_context"):
        return OUT_OF_MEMORY
    died = cause.actor_died_error_context
    return UNEXPECTED_DEATHS.get(died.Reason.Name(died.reason))
