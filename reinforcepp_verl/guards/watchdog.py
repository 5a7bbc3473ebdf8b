"""End the run when one of its processes is gone or hangs: verl asks none for its health and can wait for ever."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from dataclasses import dataclass

import ray
from ray.exceptions import RayError

from reinforcepp_verl.config import keys
from reinforcepp_verl.guards.actors import Part, ask, find_parts

# Below verl's logger, which has a handler of its own in the trainer: vLLM silences the root logger up to ERROR.
logger = logging.getLogger(f"verl.{__name__}")

LOOK_EVERY_S = 5.0
# Longer between two looks means that the whole job was stopped, as Slurm does to suspend it: nobody could answer.
PAUSE_S = 60.0
# Until the first answer of a part: an engine loads its model, and compiles it.
START_DEADLINE_S = 3600.0
# What a dead engine raises; its type is vLLM's, which this process has no need to import.
ENGINE_DEATH = "EngineDeadError"
# Time for the trainer to end by itself, with its own error and its trackers told, and for the log to reach the driver.
END_AFTER_S = 10.0
EXIT_CODE = 1
# Silence that a stalled rollout is explained with.
SILENT_S = 30.0


@dataclass
class Conversation:
    """What a part was asked, and when it last answered."""

    question: ray.ObjectRef
    begun_at: float
    answered_at: float | None = None
    """None until the first good answer: a server that still loads its model cannot give one."""


class Watch(threading.Thread):
    """Looks at the parts of the run from the trainer's process, beside the training loop.

    The training loop may hang in a call that nothing interrupts (a weight transfer to a dead engine is one), so a bad
    part ends the process; Ray then reports the death of the trainer to the driver.
    """

    def __init__(self, hang_deadline_s: float, step_deadline_s: float | None) -> None:
        super().__init__(name="reinforcepp-watch", daemon=True)
        self._hang_deadline_s = hang_deadline_s
        self._step_deadline_s = step_deadline_s
        self._conversations: dict[Part, Conversation] = {}
        self._looked_at = time.monotonic()
        self._place: tuple[str, ...] = ()
        self._placed_at = time.monotonic()

    def run(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            if not ray.is_initialized():
                # Asking Ray anything would start one.
                return
            try:
                trouble = self.look()
            except (RayError, ValueError, RuntimeError) as error:
                # Ray itself is going, or a part went between two questions: the next look decides.
                logger.debug("looking at the parts of the run: %s", error)
                continue
            except Exception:
                # A thread that ends says nothing, and the run would be watched by nobody.
                logger.warning("the watch over the run's processes failed, and goes on", exc_info=True)
                continue
            if trouble is not None:
                self._end_run(trouble)

    def look(self) -> str | None:
        """Return what is wrong with the run, None if nothing is."""
        now = time.monotonic()
        if now - self._looked_at > PAUSE_S:
            self._forgive(now)
        self._looked_at = now
        parts = list(find_parts())
        # Who ended normally is not silent.
        self._conversations = {part: talk for part, talk in self._conversations.items() if part in parts}
        for part in parts:
            if part.death is not None:
                return f"{part} died: {part.death}"
            if part.can_be_asked and (trouble := self._trouble_with(part)):
                return trouble
        return self._stuck()

    def silent(self) -> list[str]:
        """Describe the parts that have not answered for a while."""
        now = time.monotonic()
        return [
            f"{part} has not answered for {now - talk.answered_at:.0f} s"
            for part, talk in list(self._conversations.items())
            if talk.answered_at is not None and now - talk.answered_at > SILENT_S
        ]

    def _forgive(self, now: float) -> None:
        self._placed_at = now
        for talk in self._conversations.values():
            talk.answered_at, talk.begun_at = talk.answered_at and now, now

    def _trouble_with(self, part: Part) -> str | None:
        now = time.monotonic()
        if part not in self._conversations:
            self._conversations[part] = Conversation(ask(part), now)
        talk = self._conversations[part]
        if ray.wait([talk.question], timeout=0)[0]:
            try:
                if ray.get(talk.question):
                    talk.answered_at = now
            except RayError as error:
                if ENGINE_DEATH in str(error):
                    return f"{part} died: {ENGINE_DEATH}"
                logger.debug("%s: %s", part, error)
            talk.question = ask(part)
        if talk.answered_at is None and now - talk.begun_at > START_DEADLINE_S:
            return f"{part} hangs: no answer for {now - talk.begun_at:.0f} s since it was started"
        silence = 0.0 if talk.answered_at is None else now - talk.answered_at
        if silence > self._hang_deadline_s:
            return f"{part} hangs: no answer for {silence:.0f} s ({keys.GUARDS}.hang_deadline_s)"
        return None

    def _stuck(self) -> str | None:
        place, now, deadline = training_place(), time.monotonic(), self._step_deadline_s
        if not place or place != self._place:
            self._place, self._placed_at = place, now
        elif deadline is not None and now - self._placed_at > deadline:
            return (
                f"the training loop hangs: {deadline:.0f} s in {place[0]} ({keys.GUARDS}.step_deadline_s); an FSDP "
                "worker may hang"
            )
        return None

    def _end_run(self, trouble: str) -> None:
        logger.critical("guards: %s; ending the run", trouble)
        time.sleep(END_AFTER_S)
        os._exit(EXIT_CODE)


def training_place() -> tuple[str, ...]:
    """Return where in verl's trainer the main thread is, innermost first; empty outside, and in a wait for rollouts.

    A line of the trainer is a phase of a step. Waiting for rollouts has a deadline of its own, which knows progress.
    """
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    places = []
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module == "reinforcepp_verl.integration.replay_buffer":
            return ()
        if module.startswith(("verl.trainer.ppo", "reinforcepp_verl.integration.trainers")):
            places.append(f"{frame.f_code.co_name} ({module.rpartition('.')[2]}.py:{frame.f_lineno})")
        frame = frame.f_back
    return tuple(places)
