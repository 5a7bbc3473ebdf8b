"""End the run when a vLLM engine is gone: verl asks no engine for its health and can wait for a dead one for ever."""

from __future__ import annotations

import http.client
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import ray
from ray.exceptions import RayError

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
ANSWER_WITHIN_S = 10.0
# Ray ships a dying actor's last lines to the driver only if they are there for a moment.
LOG_FLUSH_S = 2.0
EXIT_CODE = 1
# verl's names of its rollout servers: vllm_server_<replica>_<node>.
SERVER_NAME = "vllm_server_"


class EngineWatch(threading.Thread):
    """Asks every rollout server's /health, from the trainer's process, beside the training loop.

    The training loop may hang in a call that nothing interrupts (the weight transfer to a dead engine is one), so a
    dead engine ends the process; Ray then reports the death of the trainer to the driver.
    """

    def __init__(self, deadline_s: float) -> None:
        super().__init__(name="reinforcepp-engine-watch", daemon=True)
        self._deadline_s = deadline_s
        self._addresses: dict[str, str] = {}
        self._healthy_at: dict[str, float] = {}

    def run(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            if not ray.is_initialized():
                # Asking Ray anything would start one.
                return
            self._find_new_servers()
            for name, address in self._addresses.items():
                self._check(name, address)

    def _find_new_servers(self) -> None:
        try:
            for name in ray.util.list_named_actors():
                if SERVER_NAME in name and name not in self._addresses:
                    answer: Any = ray.get_actor(name).get_server_address.remote()
                    host, port = ray.get(answer, timeout=ANSWER_WITHIN_S)
                    self._addresses[name] = _url_host(host, port)
                    self._healthy_at[name] = time.monotonic()
        except (RayError, ValueError, RuntimeError) as error:
            # A server that is created but not listening yet, or gone again: the next look decides.
            logger.debug("looking for vLLM servers: %s", error)

    def _check(self, name: str, address: str) -> None:
        trouble = health_problem(address)
        now = time.monotonic()
        if trouble is None:
            self._healthy_at[name] = now
        elif now - self._healthy_at[name] > self._deadline_s:
            self._end_run(f"vLLM engine {name} has not been healthy for {self._deadline_s:.0f} s: {trouble}")

    def _end_run(self, message: str) -> None:
        logger.critical("%s; ending the run", message)
        time.sleep(LOG_FLUSH_S)
        os._exit(EXIT_CODE)


def health_problem(address: str) -> str | None:
    """Return why the server at `host:port` is not healthy, None when it is."""
    # No proxy: the servers are in the cluster, whatever http_proxy says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/health", timeout=ANSWER_WITHIN_S):
            return None
    except urllib.error.HTTPError as error:
        return f"/health answers {error.code}"
    except (OSError, http.client.HTTPException) as error:
        return f"/health does not answer ({error})"


def _url_host(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
