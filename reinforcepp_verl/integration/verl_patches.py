"""Patches of verl 0.9.1 and its TransferQueue for all platforms; those for the CPU only are in cpu/cpu_patches.py.

Each has a test in tests/integration/test_verl_patches.py that fails when verl no longer needs it.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Callable, Set
from typing import Any

import wrapt

from reinforcepp_verl.common.run_folder import ATTEMPT_VARIABLE, TEMPORARY_PREFIX
from reinforcepp_verl.integration import message_authentication, weight_update

MODEL_MODULE = "verl.utils.model"
SERVER_MODULE = "verl.workers.rollout.vllm_rollout.vllm_async_server"
QUEUE_MODULE = "transfer_queue.utils.zmq_utils"
IMPORT_MODULE = "verl.utils.import_utils"
WEIGHTS_MAPPER_MODULE = "vllm.model_executor.models.utils"
WEIGHT_TRANSFER_MODULE = "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer"
FSDP_ENGINE_MODULE = "verl.workers.engine.fsdp.transformer_impl"
_OTHER_SERVER = re.compile(r"server_(?:reward|teacher)_")
SETUP_HOOK = f"{__name__}.install"


def own_socket(handle: str) -> str:
    """Return verl's socket name for a weight transfer, made unique to the run.

    verl distinguishes runs on one machine by Ray's job number, which is 1 in every Ray that a run starts itself: the
    weights of one run can reach the engine of another, and both then hang. The FSDP worker and the engine share a
    raylet, and the attempt's folder distinguishes containers whose processes have equal numbers. A run with a folder of
    its own for temporary files has the socket there, where no other user can take its place.
    """
    run = " ".join(os.environ.get(name, "") for name in ("RAY_RAYLET_PID", ATTEMPT_VARIABLE))
    address = f"{handle.removesuffix('.sock')}-{hashlib.blake2b(run.encode(), digest_size=6).hexdigest()}.sock"
    folder = tempfile.gettempdir()
    own_folder = os.path.basename(folder).startswith(TEMPORARY_PREFIX)
    return f"ipc://{folder}/{address.rpartition('/')[2]}" if own_folder else address


def use_own_sockets(module: Any) -> None:
    """Make both ends of the weight transfer from trainer to engine use the run's own socket."""
    for end in (module.BucketedWeightSender, module.BucketedWeightReceiver):
        # The plugin may be imported under two names; applied twice, the socket's name would differ at the two ends.
        if not hasattr(end.__init__, "__wrapped__"):
            end.__init__ = _with_own_socket(end.__init__)


def _with_own_socket(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def initialize(self: Any, zmq_handle: str, *args: Any, **kwargs: Any) -> None:
        original(self, own_socket(zmq_handle), *args, **kwargs)

    return initialize


def name_shared_memory(module: Any) -> None:
    """Name the buffer of a weight transfer after the attempt, which then removes one that a killed run leaves."""
    folder = os.path.basename(tempfile.gettempdir())
    if folder.startswith(TEMPORARY_PREFIX):
        for function in ("create_shared_memory", "rebuild_shared_memory"):
            if not hasattr(original := getattr(module, function), "__wrapped__"):
                setattr(module, function, _with_own_name(original, f"{folder}-"))


def _with_own_name(original: Callable[..., Any], prefix: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def with_own_name(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(original).bind(*args, **kwargs)
        given.arguments["name"] = prefix + given.arguments["name"]
        return original(*given.args, **given.kwargs)

    return with_own_name


def import_from_own_folder(module: Any) -> None:
    """Let a file that the configuration names, such as a reward function, import other files in its folder.

    verl loads it without its folder on the search path. The folder comes last, so that no library is shadowed.
    """
    if not hasattr(module.load_module, "__wrapped__"):
        module.load_module = _with_own_folder(module.load_module)


def _with_own_folder(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def load(module_path: str, *args: Any, **kwargs: Any) -> Any:
        if module_path and not module_path.startswith("pkg://"):
            folder = os.path.dirname(os.path.abspath(module_path.removeprefix("file://")))
            if folder not in sys.path:
                sys.path.append(folder)
        return original(module_path, *args, **kwargs)

    return load


def send_tied_weights_once(module: Any) -> None:
    """Let the trainer send a tied weight under one name only.

    verl sends an embedding that is tied to the output layer under both names. Each takes its place in a bucket, and if
    they are in two, vLLM 0.31 refuses the second: it finds `lm_head.weight` without the weight it is tied to.
    """
    engine = module.FSDPEngine
    if not hasattr(engine.get_per_tensor_param, "__wrapped__"):
        engine.get_per_tensor_param = _without_tied(engine.get_per_tensor_param)


def _without_tied(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def get_per_tensor_param(self: Any, *args: Any, **kwargs: Any) -> Any:
        weights, adapter = original(self, *args, **kwargs)
        tied = tied_names(self.module)
        return ((name, weight) for name, weight in weights if name not in tied), adapter

    return get_per_tensor_param


def tied_names(module: Any) -> Set[str]:
    """Return the names of the weights that are others under a second name, as transformers has tied them."""
    model = getattr(module, "_fsdp_wrapped_module", module)
    model = model.get_base_model() if hasattr(model, "peft_config") else model
    return getattr(model, "all_tied_weights_keys", {}).keys()


def authenticate_messages(module: Any) -> None:
    """Let the TransferQueue read only messages of the run, see message_authentication."""
    message = module.ZMQMessage
    if message_authentication.VARIABLE in os.environ and not hasattr(message.serialize, "__wrapped__"):
        message.serialize = _signing(message.serialize)
        message.deserialize = classmethod(_verifying(message.deserialize.__func__, module.ZMQMessageDecodeError))


def encrypt_connections(module: Any) -> None:
    """Encrypt the TransferQueue's connections if Ray's are, see message_authentication.

    Modules that were imported before have names of their own for the function. With only some connections encrypted,
    none is made and the run hangs.
    """
    original = module.create_zmq_socket
    wanted = message_authentication.VARIABLE in os.environ and message_authentication.connections_are_encrypted()
    if wanted and not hasattr(original, "__wrapped__"):
        encrypting = _encrypting(original)
        package = QUEUE_MODULE.partition(".")[0]
        loaded = [found for name, found in sys.modules.items() if name.partition(".")[0] == package]
        for user in (module, *loaded):
            if vars(user).get("create_zmq_socket") is original:
                user.create_zmq_socket = encrypting


def _encrypting(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def create_zmq_socket(*args: Any, **kwargs: Any) -> Any:
        socket = original(*args, **kwargs)
        message_authentication.encrypt(socket)
        return socket

    return create_zmq_socket


def _signing(original: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    @functools.wraps(original)
    def serialize(self: Any) -> list[Any]:
        return message_authentication.signed(original(self))

    return serialize


def _verifying(original: Callable[..., Any], refused: type[Exception]) -> Callable[..., Any]:
    @functools.wraps(original)
    def deserialize(cls: type, frames: list[Any]) -> Any:
        try:
            trusted = message_authentication.verified(frames)
        except ValueError as error:
            raise refused(str(error)) from None
        return original(cls, trusted)

    return deserialize


def ask_for_key(module: Any) -> None:
    """Let vLLM's HTTP servers refuse requests without the run's key, or the one in `VLLM_API_KEY`.

    vLLM's own check leaves some paths open that generate text.

    verl's trainers do not use HTTP: they call the servers through Ray. Reward models and teachers are used through
    HTTP, by verl's router and by reward functions that know no key, so their servers stay open.
    """
    if message_authentication.VARIABLE in os.environ and not hasattr(module.build_app, "__wrapped__"):
        module.build_app = _with_key(module.build_app)


def _with_key(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def build_app(args: Any, *rest: Any, **kwargs: Any) -> Any:
        import ray

        app = original(args, *rest, **kwargs)
        server = ray.get_runtime_context().get_actor_name() or ""
        if not (args.api_key or _OTHER_SERVER.search(server)):
            key = os.environ.get("VLLM_API_KEY") or message_authentication.api_key()
            # Around all of vLLM's own, which are already in place.
            inner = app.middleware_stack or app.build_middleware_stack()
            app.middleware_stack = message_authentication.KeyMiddleware(inner, key)
        return app

    return build_app


def load_critic_with_its_attention(module: Any) -> None:
    """Let a critic use the attention of its configuration: verl always loads it with FlashAttention 2."""
    if not hasattr(module.load_valuehead_model, "__wrapped__"):
        module.load_valuehead_model = _with_its_attention(module.load_valuehead_model)


def _with_its_attention(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def load_valuehead_model(local_path: str, torch_dtype: Any, model_config: Any, trust_remote_code: bool) -> Any:
        # verl has read `override_config.attn_implementation` of the critic into it.
        attention = model_config._attn_implementation
        if attention == "flash_attention_2":
            return original(local_path, torch_dtype, model_config, trust_remote_code)
        from transformers import AutoModelForTokenClassification

        return AutoModelForTokenClassification.from_pretrained(
            local_path,
            torch_dtype=torch_dtype,
            config=model_config,
            attn_implementation=attention,
            trust_remote_code=trust_remote_code,
        )

    return load_valuehead_model


def seed_first_weights(module: Any) -> None:
    """Draw the first weights of a critic's output and of LoRA adapters with the seed of the engine's configuration.

    verl uses that seed only with full determinism, so two runs with one seed begin with different weights.
    """
    engine = module.FSDPEngine
    if not hasattr(engine._build_model_optimizer, "__wrapped__"):
        engine._build_model_optimizer = _seeded(engine._build_model_optimizer)


def _seeded(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _build_model_optimizer(self: Any) -> None:
        import torch  # not needed in the processes of the TransferQueue

        # The weights are drawn on the CPU.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.engine_config.seed)
            original(self)

    return _build_model_optimizer


def name_rename_mapper_as_before(module: Any) -> None:
    """Give back the name by which verl, from vLLM 0.25 on, calls the method that reads the names of LoRA adapters.

    vLLM 0.31 has another name for it.
    """
    mapper = module.WeightsMapper
    if hasattr(mapper, "get_rename_mapper") and not hasattr(mapper, "get_unstacked_mapper"):
        mapper.get_unstacked_mapper = mapper.get_rename_mapper


def name_semaphores() -> None:
    """Name the semaphores of this process and its children after the attempt, which then removes those that remain.

    Ray kills the children of a worker that ends, also the process that would remove them: each run leaves some.
    """
    folder = os.path.basename(tempfile.gettempdir())
    if folder.startswith(TEMPORARY_PREFIX):
        multiprocessing.current_process()._config["semprefix"] = f"/{folder}"  # type: ignore[attr-defined]


def install() -> None:
    """Apply each patch as soon as its module is imported.

    The plugin calls it in verl's processes. Those of the TransferQueue import no verl: Ray calls it there, as the setup
    hook of the run's workers.
    """
    name_semaphores()
    wrapt.register_post_import_hook(authenticate_messages, QUEUE_MODULE)
    wrapt.register_post_import_hook(encrypt_connections, QUEUE_MODULE)
    wrapt.register_post_import_hook(ask_for_key, SERVER_MODULE)
    wrapt.register_post_import_hook(load_critic_with_its_attention, MODEL_MODULE)
    wrapt.register_post_import_hook(use_own_sockets, WEIGHT_TRANSFER_MODULE)
    wrapt.register_post_import_hook(name_shared_memory, WEIGHT_TRANSFER_MODULE)
    wrapt.register_post_import_hook(import_from_own_folder, IMPORT_MODULE)
    wrapt.register_post_import_hook(name_rename_mapper_as_before, WEIGHTS_MAPPER_MODULE)
    wrapt.register_post_import_hook(send_tied_weights_once, FSDP_ENGINE_MODULE)
    wrapt.register_post_import_hook(seed_first_weights, FSDP_ENGINE_MODULE)
    weight_update.install()
