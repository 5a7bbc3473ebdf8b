"""The environment of a run's processes: what verl and its libraries read there, and what must not reach them."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from reinforcepp_verl.common.hardware import cpu_platform_wanted
from reinforcepp_verl.common.run_folder import ATTEMPT_VARIABLE, Attempt
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.integration import message_authentication
from reinforcepp_verl.integration.cpu.environment import with_defaults
from reinforcepp_verl.preflight.registered_names import OWN_MODULES
from reinforcepp_verl.runs import processes, ray_token, temporary_folder
from reinforcepp_verl.sizing.model_size import model_size

# On a CPU these are about devices that the run does not use; Ray compares the first ones with the virtual GPUs.
ABOUT_ACCELERATORS = (
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    *("ASCEND_RT_VISIBLE_DEVICES", "ONEAPI_DEVICE_SELECTOR", "TPU_VISIBLE_CHIPS", "HABANA_VISIBLE_MODULES"),
    *("NEURON_RT_VISIBLE_CORES", "GPU_DEVICE_ORDINAL"),
)
THREAD_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
THREAD_COUNT = re.compile(r"[1-9]\d*(?:,[1-9]\d*)*")
ONE_THREAD_PARAMETERS = 10_000_000
"""On a CPU, a smaller model gains nothing from a second thread."""
MODEL_CACHES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
# A Ray of its own must not look for another one.
ABOUT_ANOTHER_RAY = ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_JOB_CONFIG_JSON_ENV_VAR")
OF_EVERY_RUN = {
    message_authentication.VARIABLE: "1",
    # Ray's agents rename themselves, which would overwrite the environment that carries the mark.
    "SPT_NOENV": "1",
    # Keep the log complete: by default Ray omits repeated lines.
    "RAY_DEDUP_LOGS": "0",
    "PYTHONUNBUFFERED": "1",
    # torch reads its own files in the encoding of the locale and fails if that is ASCII.
    "PYTHONUTF8": "1",
    "PYTHONIOENCODING": "utf-8",
}
# Set by Ray, tensordict and torch when they are imported, as the check of some configurations does.
SET_BY_IMPORTS = ("RAY_CLIENT_MODE", "RAY_ENABLE_UV_RUN_RUNTIME_ENV", "LAZY_LEGACY_OP", "TORCHINDUCTOR_CACHE_DIR")
LOOPBACK = ("127.0.0.1", "localhost")
NO_PROXY = ("no_proxy", "NO_PROXY")


def variables(attempt: Attempt) -> dict[str, str]:
    """Return the environment variables that Ray sets for processes on all nodes."""
    return {
        processes.RUN_VARIABLE: str(attempt.run.path),
        ATTEMPT_VARIABLE: str(attempt.path),
        message_authentication.VARIABLE: "1",
        "VERL_FILE_LOGGER_PATH": str(attempt.tracker),
        **_trackers(attempt.run.path),
        **_own_modules(),
    }


def _trackers(run: Path) -> dict[str, str]:
    """Return where verl's trackers write: into the run's folder, one curve for all attempts (docs/logging.md).

    What the user has set is inherited. It is not repeated here: verl prints these variables, and an address may have a
    password in it.
    """
    return {name: default for name, default in _default_trackers(run).items() if name not in os.environ}


def _default_trackers(run: Path) -> dict[str, str]:
    return {
        "TENSORBOARD_DIR": str(run / "tensorboard"),
        "WANDB_DIR": str(run),
        "WANDB_RUN_ID": run.name,
        "WANDB_RESUME": "allow",
        "SWANLAB_LOG_DIR": str(run / "swanlog"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{run}/mlflow.db",
        "TRACKIO_DIR": str(run / "trackio"),
    }


def _own_modules() -> dict[str, str]:
    """Return what makes verl import the user's modules. Ray's workers inherit it, except where Ray ran before."""
    if not os.environ.get(OWN_MODULES):
        return {}
    given = {OWN_MODULES: os.environ[OWN_MODULES]}
    if search_path := os.environ.get("PYTHONPATH"):
        given["PYTHONPATH"] = os.pathsep.join(os.path.abspath(folder) for folder in search_path.split(os.pathsep))
    return given


@contextmanager
def of(config: DictConfig, attempt: Attempt) -> Iterator[dict[str, str]]:
    """Yield the environment of the training process, inherited by all processes of the run on this machine."""
    given = _with_sound_thread_counts(os.environ)
    environment = {
        # The plugin sets them too, but only after the import of torch, which reads some of them.
        **(with_defaults({**_threads(config), **given}) if cpu_platform_wanted() else given),
        processes.RUN_VARIABLE: str(attempt.run.path),
        **OF_EVERY_RUN,
    }
    if config.ray_kwargs.ray_init.get("address") != "local":
        if cpu_platform_wanted():
            _remove(environment, ABOUT_ACCELERATORS)
        yield environment
        return
    for_own_ray(environment)
    if not cpu_platform_wanted():
        # It would be in the temporary folder otherwise, and so be lost with each attempt.
        environment.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_{os.getuid()}")
    folder = str(temporary_folder.create(attempt, environment))
    environment |= {"TMPDIR": folder, "RAY_TMPDIR": folder}
    home = environment.get("HOME") or os.path.expanduser("~")
    if not _can_write(home):
        environment = {**_models_in(home, environment), **environment, "HOME": folder}
    with ray_token.written(Path(folder, "ray_token"), environment) as environment:
        yield environment


def of_toy_runs() -> dict[str, str]:
    """Return what the runs of a small model with a Ray of their own on this machine's CPU have in common."""
    environment = {**with_defaults(_with_sound_thread_counts(os.environ)), **OF_EVERY_RUN}
    for_own_ray(environment)
    return environment


def names_of_one_run() -> set[str]:
    """Return the variables that may differ between runs with the same imports."""
    of_run = {processes.RUN_VARIABLE, ATTEMPT_VARIABLE, "VERL_FILE_LOGGER_PATH", *_default_trackers(Path())}
    return {*of_run, "TMPDIR", "RAY_TMPDIR", ray_token.MODE, ray_token.TOKEN, ray_token.TOKEN_PATH, *SET_BY_IMPORTS}


def _with_sound_thread_counts(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out what some libraries ignore, so that all cores would be used, and others fail on."""
    return {n: v for n, v in environment.items() if n not in THREAD_COUNTS or THREAD_COUNT.fullmatch(v)}


def _threads(config: DictConfig) -> dict[str, str]:
    """Let the workers of a model that is not a toy share the cores; trainer and engine compute in turn."""
    model = model_size(value(config, keys.MODEL_PATH))
    if model is None or model.parameters < ONE_THREAD_PARAMETERS:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // value(config, keys.N_GPUS_PER_NODE)))}


def _can_write(folder: str) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _models_in(home: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return where Hugging Face finds what was downloaded into a home directory that cannot be written."""
    if any(environment.get(name) for name in MODEL_CACHES):
        return {}
    cache = Path(home, ".cache", "huggingface")
    found = {"HF_HUB_CACHE": cache / "hub", "HF_TOKEN_PATH": cache / "token"}
    return {name: str(path) for name, path in found.items() if path.exists()}


def for_own_ray(environment: dict[str, str]) -> None:
    """Change the environment of a process that starts a Ray of its own on this machine."""
    # Keeps Ray, and therefore vLLM's servers, on loopback. Despite the name, this is the only setting that does:
    # Ray replaces `_node_ip_address=127.0.0.1` by the machine's address.
    environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    _remove(environment, ABOUT_ANOTHER_RAY)
    if cpu_platform_wanted():
        _remove(environment, ABOUT_ACCELERATORS)
    # gRPC, which Ray uses, and HTTP clients obey proxies also on loopback. Which spelling they read differs.
    hosts = [host for name in NO_PROXY for host in environment.get(name, "").split(",") if host]
    for name in NO_PROXY:
        environment[name] = ",".join(dict.fromkeys([*hosts, *LOOPBACK]))


def _remove(environment: dict[str, str], names: tuple[str, ...]) -> None:
    for name in names:
        environment.pop(name, None)
