"""The patches for all platforms, and that verl still needs them."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import pytest
import ray
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from verl.utils import model as verl_model
from verl.utils.vllm import utils as verl_vllm_utils
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine
from verl.workers.rollout.vllm_rollout import bucketed_weight_transfer
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver, BucketedWeightSender
from vllm.model_executor.models.utils import AutoWeightsLoader, WeightsMapper

from reinforcepp_verl.common.run_folder import ATTEMPT_VARIABLE
from reinforcepp_verl.integration import message_authentication, verl_patches

HANDLE = "ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock"


def handles(monkeypatch, raylet, attempt):
    monkeypatch.setenv("RAY_RAYLET_PID", raylet)
    monkeypatch.setenv(ATTEMPT_VARIABLE, attempt)
    sender = BucketedWeightSender(zmq_handle=HANDLE, bucket_size_mb=1, use_shm=True)
    return sender.zmq_handle, BucketedWeightReceiver(zmq_handle=HANDLE, device=None, use_shm=True).zmq_handle


def test_both_ends_of_a_run_connect_and_no_other_run_does(monkeypatch):
    ours = handles(monkeypatch, "17", "/runs/a/attempt_1")
    assert ours[0] == ours[1] == verl_patches.own_socket(HANDLE) != HANDLE
    others = {handles(monkeypatch, *other)[0] for other in (("18", "/runs/a/attempt_1"), ("17", "/runs/b/attempt_1"))}
    assert len(others) == 2 and ours[0] not in others
    # The longest path of a socket has 107 bytes.
    assert ours[0].startswith("ipc:///tmp/") and len(ours[0]) < 107


def test_verl_still_names_the_socket_by_rays_job_number_alone():
    from verl.workers.rollout.vllm_rollout import vllm_rollout

    source = inspect.getsource(vllm_rollout)
    assert 'f"ipc:///tmp/rl-colocate-zmq-{job_id}-replica-{self.replica_rank}-rank-{local_rank}.sock"' in source


@pytest.mark.long
def test_every_ray_cluster_gives_its_first_job_the_same_name():
    """Two runs on one machine, each with its own Ray."""
    script = "import ray; from reinforcepp_verl.common.slow_ray_start import retry_slow_ray_start; "
    script += "retry_slow_ray_start(ray.init, address='local', include_dashboard=False, num_cpus=1); "
    script += "print('job', ray.get_runtime_context().get_job_id())"
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    jobs = [process.communicate(timeout=300)[0].split("job ")[1].strip() for process in both]
    assert jobs == ["01000000", "01000000"]


def _application(args, *, supported_tasks=()):
    """A web application in place of vLLM's."""
    app = FastAPI()
    for path in ("/v1/models", "/invocations", "/health", "/metrics"):
        app.get(path)(lambda: "served")
    return app


@pytest.mark.parametrize(
    ("actor", "given", "variable", "key"),
    [
        ("server_0_0", None, None, "run"),
        ("abc_server_3_1_suffix", None, None, "run"),
        ("server_0_0", None, "mine", "mine"),
        ("server_0_0", ["vllm's own"], None, None),
        ("server_reward_0_0", None, None, None),
        ("server_teacher_0_0", None, None, None),
    ],
)
def test_the_servers_of_the_rollout_ask_for_a_key(monkeypatch, actor, given, variable, key):
    module = SimpleNamespace(build_app=_application)
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    if variable:
        monkeypatch.setenv("VLLM_API_KEY", variable)
    monkeypatch.setattr(message_authentication, "api_key", lambda: "run")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_actor_name=lambda: actor))
    monkeypatch.delenv(message_authentication.VARIABLE, raising=False)
    verl_patches.ask_for_key(module)
    assert module.build_app is _application
    monkeypatch.setenv(message_authentication.VARIABLE, "1")
    for _ in range(2):
        verl_patches.ask_for_key(module)
    assert "supported_tasks" in inspect.signature(module.build_app).parameters

    client = TestClient(module.build_app(SimpleNamespace(api_key=given)))
    for path in ("/v1/models", "/invocations", "/nowhere"):
        served = 404 if path == "/nowhere" else 200
        assert client.get(path).status_code == (served if key is None else 401)
        assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == (
            served if key is None else 401
        )
        assert client.get(path, headers={"Authorization": f"Bearer {key}"}).status_code == served
    assert client.get("/health").status_code == client.get("/metrics").status_code == 200


def test_verl_still_builds_and_names_its_servers_as_the_patch_expects():
    from verl.workers.rollout.vllm_rollout import vllm_async_server

    source = inspect.getsource(vllm_async_server)
    assert "app = build_app(args, **build_app_kwargs)" in source
    assert 'f"{prefix}server_{self.replica_rank}_{node_rank}{self.name_suffix}"' in source
    for other in ("reward", "teacher"):
        assert f'f"{{prefix}}server_{other}_{{self.replica_rank}}_{{node_rank}}{{self.name_suffix}}"' in source
    assert "api_key" not in source, "verl asks for a key itself: the patch can go"


def test_a_run_with_a_folder_of_its_own_has_the_socket_there(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/rpp-12345678")
    assert verl_patches.own_socket(HANDLE).startswith("ipc:///tmp/rpp-12345678/rl-colocate-zmq-")
    monkeypatch.setattr(tempfile, "tempdir", "/scratch/" + 60 * "a")
    assert verl_patches.own_socket(HANDLE).startswith("ipc:///tmp/rl-colocate-zmq-")


@pytest.fixture
def in_a_run(monkeypatch):
    """Have this process's temporary files in the folder of an attempt."""
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/rpp-12345678")


def test_the_buffer_of_a_weight_transfer_is_named_after_the_run(in_a_run):
    given = {
        name: getattr(bucketed_weight_transfer, name) for name in ("create_shared_memory", "rebuild_shared_memory")
    }
    module = SimpleNamespace(**{name: getattr(function, "__wrapped__", function) for name, function in given.items()})
    for _ in range(2):
        verl_patches.name_shared_memory(module)
    sent = module.create_shared_memory(4, "verl_weights_1")
    try:
        assert sent.name == "rpp-12345678-verl_weights_1"
        sent.buf[:4] = b"1234"
        tensor, received = module.rebuild_shared_memory("verl_weights_1", 4)
        assert bytes(tensor.tolist()) == b"1234"
        del tensor
        received.close()
    finally:
        sent.close()
        sent.unlink()


def test_elsewhere_it_keeps_verls_name():
    module = SimpleNamespace(create_shared_memory=id)
    verl_patches.name_shared_memory(module)
    assert module.create_shared_memory is id


def test_verl_still_creates_and_opens_the_buffer_with_these_functions():
    source = inspect.getsource(bucketed_weight_transfer)
    assert "shm = create_shared_memory(self.bucket_size, shm_name)" in source
    assert "buffer, shm = rebuild_shared_memory(shm_name, shm_size, dtype=torch.uint8)" in source


@pytest.mark.parametrize("chosen", ["sdpa", "eager"])
def test_a_critic_uses_the_attention_of_its_configuration(arithmetic, chosen):
    from transformers import AutoConfig

    path = arithmetic / "data" / "arithmetic" / "model"
    # As verl reads it.
    config = AutoConfig.from_pretrained(path, attn_implementation=chosen)
    config.num_labels = 1
    critic = verl_model.load_valuehead_model(str(path), torch.float32, config, False)
    assert critic.config._attn_implementation == chosen and critic.score.out_features == 1


def test_a_critic_with_flash_attention_is_loaded_by_verl():
    asked = []
    module = SimpleNamespace(load_valuehead_model=lambda *arguments: asked.append(arguments))
    for _ in range(2):
        verl_patches.load_critic_with_its_attention(module)
    config = SimpleNamespace(_attn_implementation="flash_attention_2")
    module.load_valuehead_model("path", torch.float32, config, False)
    assert asked == [("path", torch.float32, config, False)]


def test_verl_still_loads_critics_with_flash_attention_only():
    source = inspect.getsource(inspect.unwrap(verl_model.load_valuehead_model))
    assert 'attn_implementation="flash_attention_2"' in source and "model_config._attn" not in source


def test_the_names_of_adapters_are_read_with_vllms_new_method():
    mapper = WeightsMapper(orig_to_new_prefix={"a.": "b."})
    verl_patches.name_rename_mapper_as_before(SimpleNamespace(WeightsMapper=WeightsMapper))
    assert mapper.get_unstacked_mapper() == mapper.get_rename_mapper()


def test_a_vllm_with_neither_name_is_left_as_it_is():
    older = SimpleNamespace(WeightsMapper=SimpleNamespace())
    verl_patches.name_rename_mapper_as_before(older)
    assert vars(older.WeightsMapper) == {}


def test_vllm_still_lacks_the_method_by_which_verl_reads_the_names_of_adapters():
    assert "get_unstacked_mapper()" in inspect.getsource(verl_vllm_utils.VLLMHijack)
    assert "def get_unstacked_mapper" not in inspect.getsource(WeightsMapper)


@pytest.fixture
def tied_trainer() -> SimpleNamespace:
    """Return what verl's FSDP engine needs of itself to send the weights of a Llama with tied embeddings."""
    config = LlamaConfig(
        vocab_size=8, hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1, head_dim=4
    )
    config.tie_word_embeddings = True
    return SimpleNamespace(
        module=LlamaForCausalLM(config),
        model_config=SimpleNamespace(lora={}, hf_config=config),
        **{"_uses_fsdp2_cpu_offload_policy": True, "_is_offload_param": False, "_qat_enabled": False},
    )


def test_a_tied_weight_is_sent_once(tied_trainer):
    sent, adapter = FSDPEngine.get_per_tensor_param(tied_trainer)
    names = [name for name, _ in sent]
    assert "model.embed_tokens.weight" in names and "lm_head.weight" not in names
    assert sorted(names) == sorted(name for name, _ in tied_trainer.module.named_parameters()) and adapter is None
    tied_trainer.module = get_peft_model(tied_trainer.module, LoraConfig(target_modules=["q_proj"]))
    assert verl_patches.tied_names(tied_trainer.module) == {"lm_head.weight"}


def test_an_untied_weight_is_sent(tied_trainer):
    tied_trainer.module.config.tie_word_embeddings = False
    tied_trainer.module = LlamaForCausalLM(tied_trainer.module.config)
    assert "lm_head.weight" in dict(FSDPEngine.get_per_tensor_param(tied_trainer)[0])


def test_without_the_patch_it_is_sent_twice_and_vllm_refuses_the_second(tied_trainer):
    sent, _ = inspect.unwrap(FSDPEngine.get_per_tensor_param)(tied_trainer)
    both = {name for name, _ in sent} & {"model.embed_tokens.weight", "lm_head.weight"}
    assert len(both) == 2, "verl sends it once by itself: the patch can go"
    loader = AutoWeightsLoader(torch.nn.Module())
    loader.aliased_params = {"lm_head.weight": "model.embed_tokens.weight"}
    with pytest.raises(ValueError, match="because it is tied"):
        loader.load_weights([("lm_head.weight", torch.ones(1))])


class Engine:
    """Builds what verl's engine builds with random numbers."""

    def __init__(self, seed):
        self.engine_config = SimpleNamespace(seed=seed)

    def _build_model_optimizer(self):
        self.weights = torch.randn(3)


def test_first_weights_are_drawn_with_the_seed_and_nothing_else_is():
    module = SimpleNamespace(FSDPEngine=type("Patched", (Engine,), {}))
    for _ in range(2):
        verl_patches.seed_first_weights(module)
    before = torch.random.get_rng_state()
    engines = [module.FSDPEngine(seed) for seed in (1, 1, 2)]
    for engine in engines:
        engine._build_model_optimizer()
        torch.testing.assert_close(torch.random.get_rng_state(), before)
        torch.randn(1)
        before = torch.random.get_rng_state()
    first, again, other = (engine.weights.tolist() for engine in engines)
    assert first == again != other
    torch.manual_seed(1)
    assert first == torch.randn(3).tolist()


def test_verl_still_builds_models_without_a_seed():
    assert FSDPEngine._build_model_optimizer.__wrapped__
    parts = (FSDPEngine._build_model_optimizer, FSDPEngine._build_module, FSDPEngine._build_lora_module)
    sources = [inspect.getsource(inspect.unwrap(part)) for part in parts]
    assert "self._build_module()" in sources[0] and "self._build_lora_module(module)" in sources[0]
    assert not any("seed" in source for source in sources), "verl seeds it itself: the patch can go"
