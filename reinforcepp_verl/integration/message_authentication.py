"""A secret of the Ray cluster, which the TransferQueue's messages and requests to vLLM must show.

The queue's ports unpickle whatever anyone who can connect sends: every user of the machine and, on several nodes, of
the network. The first frame of a message is therefore a keyed digest of all that is unpickled (the header) and of
the sizes of the tensors behind it. Their bytes are not covered: they are read as numbers, and a digest of gigabytes
would delay every step.

Who reads the network's traffic could send a recorded message again. But without TLS, Ray sends its token and this
secret in clear text over the same network, so such a reader needs no recordings. With Ray's TLS the secret is safe, and
the queue's connections are encrypted with keys that are derived from it: what is recorded of one is of no use in
another, or later in the same.
"""

from __future__ import annotations

import hmac
import os
import secrets
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import zmq
from zmq.utils import z85

VARIABLE = "REINFORCEPP_AUTHENTICATED"
"""Set in every process of a run that `reinforcepp` has started; all of them must agree."""
SECRET_NAME, NAMESPACE = b"message_secret", b"reinforcepp_verl"
SECRET_BYTES = 32


def signed(frames: Sequence[Any]) -> list[Any]:
    """Return the frames of a message with their digest before them."""
    return [_digest(run_secret(), frames), *frames]


def verified(frames: Sequence[Any]) -> list[Any]:
    """Return the frames behind the digest.

    Raises:
        ValueError: the sender does not know the secret
    """
    if not frames or not hmac.compare_digest(bytes(memoryview(frames[0])), _digest(run_secret(), frames[1:])):
        raise ValueError("the message is not from a process of this run")
    return list(frames[1:])


def connections_are_encrypted() -> bool:
    """Return True if Ray uses TLS in this cluster."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def encrypt(socket: zmq.Socket) -> None:
    """Encrypt the connections of a ZeroMQ socket that is not connected yet, with CurveZMQ.

    Whoever connects must know the server's public key, which the protocol never sends: only processes of the run do.
    """
    secret_key = z85.encode(hmac.digest(run_secret(), b"zmq", "sha256"))
    if socket.type == zmq.ROUTER:
        socket.curve_secretkey, socket.curve_server = secret_key, True
    else:
        socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
        socket.curve_serverkey = zmq.curve_public(secret_key)


def api_key() -> str:
    """Return the key that the HTTP servers of the rollout's engines ask for."""
    return hmac.new(run_secret(), b"vllm", "sha256").hexdigest()


class KeyMiddleware:
    """An ASGI middleware that answers 401 to requests without the key, except those that only look at the server."""

    OPEN_PATHS = ("/health", "/metrics")

    def __init__(self, app: Any, key: str) -> None:
        self._app, self._expected = app, f"Bearer {key}".encode()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Pass on a request with the key."""
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if (
            scope["type"] == "lifespan"
            or scope.get("path") in self.OPEN_PATHS
            or hmac.compare_digest(given, self._expected)
        ):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"the key of the run is missing\n"})
        else:
            await send({"type": "websocket.close", "code": 1008})


def run_secret() -> bytes:
    """Return the secret, which the first process that asks creates.

    Only processes that Ray admits can read it: it is in the memory of Ray's own store, in no file, log or argument.
    """
    import ray

    return _shared_secret(ray.get_runtime_context().gcs_address)


@lru_cache(maxsize=1)
def _shared_secret(_cluster: str) -> bytes:
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

    # Kept by the store if another process was first.
    _internal_kv_put(SECRET_NAME, secrets.token_bytes(SECRET_BYTES), overwrite=False, namespace=NAMESPACE)
    secret = _internal_kv_get(SECRET_NAME, namespace=NAMESPACE)
    if not isinstance(secret, bytes) or len(secret) != SECRET_BYTES:
        raise RuntimeError("Ray's store does not return the secret of the run's messages")
    return secret


def _digest(secret: bytes, frames: Sequence[Any]) -> bytes:
    from transfer_queue.utils.serial_utils import _is_pickle_fallback

    views = [memoryview(frame) for frame in frames]
    digest = hmac.new(secret, struct.pack(f"<{len(views)}Q", *(view.nbytes for view in views)), "sha256")
    # The header; or a mark, and behind it a message that is one pickle.
    for view in views[: 2 if views and _is_pickle_fallback(views[0]) else 1]:
        digest.update(view)
    return digest.digest()
