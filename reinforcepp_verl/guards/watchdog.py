"""Ends the run when one of its processes dies or hangs: verl does no health checks and can wait indefinitely."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import ray
from ray.exceptions import RayError

from reinforcepp_verl.config import keys
from reinforcepp_verl.guards import END_OF_RUN
from reinforcepp_verl.guards.actors import RunActor, find_actors, health_check

# A child of verl's logger, which has its own handler in the trainer: vLLM silences the root logger up to ERROR.
logger = logging.getLogger(f"verl.{__name__}")

CHECK_INTERVAL_S = 5.0
# A longer time between two checks means that the whole job was suspended, for example by Slurm: no actor could answer.
SUSPENDED_S = 60.0
# Deadline for the first answer of an actor: an engine has to load and compile its model.
START_DEADLINE_S = 3600.0
# The error of a dead engine, by name so that this process does not import vLLM.
ENGINE_DEAD_ERROR = "EngineDeadError"
# Time for the trainer to end by itself, with its own error and trackers closed, and for the log to reach the driver.
END_AFTER_S = 10.0
EXIT_CODE = 1
# An actor without an answer for this long is named as a possible cause of a stalled rollout.
UNRESPONSIVE_S = 30.0


@dataclass
class HealthCheck:
    """A call that an actor has not answered yet, and the time of its last answer."""

    call: ray.ObjectRef
    begun_at: float
    answered_at: float | None = None
    """None until the first answer: a server that is still loading its model cannot answer."""


class Watchdog(threading.Thread):
    """Checks the actors of the run from the trainer's process, concurrently with the training loop.

    The training loop may hang in an uninterruptible call (such as a weight transfer to a dead engine), so a problem
    ends the process; Ray then reports the death of the trainer to the driver.
    """

    def __init__(
        self, hang_deadline_s: float, step_deadline_s: float | None, training_packages: Sequence[ModuleType]
    ) -> None:
        """`training_packages` contain the code of the training loop, whose progress is subject to `step_deadline_s`."""
        super().__init__(name="reinforcepp-watchdog", daemon=True)
        self._hang_deadline_s = hang_deadline_s
        self._step_deadline_s = step_deadline_s
        self._training_packages = training_packages
        self._waits_for_rollouts = False
        self._health_checks: dict[RunActor, HealthCheck] = {}
        self._checked_at = time.monotonic()
        self._position: tuple[str, ...] = ()
        self._position_since = time.monotonic()

    def run(self) -> None:
        while True:
            time.sleep(CHECK_INTERVAL_S)
            if not ray.is_initialized():
                # Any call to Ray would start a new one.
                return
            try:
                problem = self.check()
            except (RayError, ValueError, RuntimeError) as error:
                # Ray is shutting down, or an actor ended between two calls: the next check decides.
                logger.debug("checking the processes of the run: %s", error)
                continue
            except Exception:
                # Otherwise the thread would end silently, and the run would not be monitored.
                logger.warning("a check of the run's processes failed; the next one is tried", exc_info=True)
                continue
            if problem is not None:
                self._end_run(problem)

    def check(self) -> str | None:
        """Return the problem of the run, None if there is none."""
        now = time.monotonic()
        if now - self._checked_at > SUSPENDED_S:
            self._restart_deadlines(now)
        self._checked_at = now
        actors = list(find_actors())
        # An actor that ended normally is not unresponsive.
        self._health_checks = {actor: check for actor, check in self._health_checks.items() if actor in actors}
        for actor in actors:
            if actor.death is not None:
                return f"{actor} died: {actor.death}"
            if actor.answers_health_checks and (problem := self._check_actor(actor)):
                return problem
        return self._check_training_loop()

    def unresponsive(self) -> list[str]:
        """Describe the actors that have not answered for a while."""
        now = time.monotonic()
        return [
            f"{actor} has not answered for {now - check.answered_at:.0f} s"
            for actor, check in list(self._health_checks.items())
            if check.answered_at is not None and now - check.answered_at > UNRESPONSIVE_S
        ]

    @contextmanager
    def waiting_for_rollouts(self) -> Iterator[None]:
        """Suspend `step_deadline_s`: this wait has its own deadline, which takes finished rollouts into account."""
        self._waits_for_rollouts = True
        try:
            yield
        finally:
            self._waits_for_rollouts = False

    def _restart_deadlines(self, now: float) -> None:
        self._position_since = now
        for check in self._health_checks.values():
            check.answered_at, check.begun_at = check.answered_at and now, now

    def _check_actor(self, actor: RunActor) -> str | None:
        now = time.monotonic()
        if actor not in self._health_checks:
            self._health_checks[actor] = HealthCheck(health_check(actor), now)
        check = self._health_checks[actor]
        if ray.wait([check.call], timeout=0)[0]:
            try:
                if ray.get(check.call):
                    check.answered_at = now
            except RayError as error:
                if ENGINE_DEAD_ERROR in str(error):
                    return f"{actor} died: {ENGINE_DEAD_ERROR}"
                logger.debug("%s: %s", actor, error)
            check.call = health_check(actor)
        if check.answered_at is None and now - check.begun_at > START_DEADLINE_S:
            return f"{actor} hangs: no answer for {now - check.begun_at:.0f} s since it was started"
        silence = 0.0 if check.answered_at is None else now - check.answered_at
        if silence > self._hang_deadline_s:
            return f"{actor} hangs: no answer for {silence:.0f} s ({keys.GUARDS}.hang_deadline_s)"
        return None

    def _check_training_loop(self) -> str | None:
        now, deadline = time.monotonic(), self._step_deadline_s
        position = () if self._waits_for_rollouts else training_loop_position(self._training_packages)
        if not position or position != self._position:
            self._position, self._position_since = position, now
        elif deadline is not None and now - self._position_since > deadline:
            return (
                f"the training loop hangs: {deadline:.0f} s in {position[0]} ({keys.GUARDS}.step_deadline_s); an FSDP "
                "worker may hang"
            )
        return None

    def _end_run(self, problem: str) -> None:
        logger.critical(END_OF_RUN, problem)
        time.sleep(END_AFTER_S)
        os._exit(EXIT_CODE)


def training_loop_position(packages: Sequence[ModuleType]) -> tuple[str, ...]:
    """Return the position of the main thread in the code of `packages`, innermost first; empty outside of it.

    Each line there is a phase of a step.
    """
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    position = []
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if any(is_within(module, package) for package in packages):
            position.append(f"{frame.f_code.co_name} ({module.rpartition('.')[2]}.py:{frame.f_lineno})")
        frame = frame.f_back
    return tuple(position)


def is_within(module: str, package: ModuleType) -> bool:
    """Return True if a module is `package` or inside it."""
    return module == package.__name__ or module.startswith(f"{package.__name__}.")
