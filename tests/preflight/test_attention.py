"""FlashAttention 2 is used where it is installed, and its absence is an error only where it was asked for."""

from __future__ import annotations

import pytest

from reinforcepp_verl.preflight import attention, examine, machine

RECIPE = ("+recipe=math_rlvr/qwen25_05b_gsm8k", "cluster=h100")
KEY = "actor_rollout_ref.model.override_config.attn_implementation"
CRITIC_KEY = "critic.model.override_config.attn_implementation"


@pytest.fixture(autouse=True)
def _on_a_gpu_machine(monkeypatch):
    monkeypatch.setattr(attention, "accelerator_present", lambda: True)


@pytest.fixture
def flash_attn(tmp_path, monkeypatch):
    """Return a function that installs a module of that name."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return (tmp_path / "flash_attn.py").write_text


def test_without_it_sdpa_is_used_and_a_warning_says_so(compose):
    config = compose(*RECIPE)
    assert config.actor_rollout_ref.model.override_config.attn_implementation == "sdpa"
    assert config.critic.model.override_config.attn_implementation == "sdpa"
    [warning] = attention.check(config)
    assert warning.name == "no_flash_attention"
    assert warning.message.startswith(f"{KEY} is sdpa: flash-attn is not installed, so memory grows with the square")


def test_sequences_are_not_split_without_it(compose):
    key = "actor_rollout_ref.actor.ulysses_sequence_parallel_size"
    errors = attention.check(compose(*RECIPE, f"{key}=2"))
    assert errors[0].startswith(
        f"{key} is 2, but {KEY} is sdpa: verl splits sequences for FlashAttention only, with sdpa"
    )


@pytest.mark.parametrize("attention_of_the_model", ["sdpa", "eager", "flex_attention"])
@pytest.mark.parametrize("key", ["critic.fsdp.ulysses_sequence_parallel_size", "critic.ulysses_sequence_parallel_size"])
def test_a_critics_sequences_are_not_split_without_it(compose, flash_attn, key, attention_of_the_model):
    flash_attn("")
    own = f"{CRITIC_KEY}={attention_of_the_model}"
    config = compose(*RECIPE, "+method=ppo", f"++{KEY}=flash_attention_2", f"++{own}", f"{key}=2")
    assert config.actor_rollout_ref.model.override_config.attn_implementation == "flash_attention_2"
    [error] = attention.check(config)
    assert error.startswith(f"{key} is 2, but {CRITIC_KEY} is {attention_of_the_model}: verl splits sequences for")
    config.critic.enable = False
    assert attention.check(config) == []


def test_a_critic_alone_with_sdpa_is_warned_about(compose):
    config = compose(*RECIPE, "+method=ppo", f"++{KEY}=eager", f"++{CRITIC_KEY}=sdpa")
    [warning] = attention.check(config)
    assert warning.message.startswith(f"{CRITIC_KEY} is sdpa: flash-attn is not installed")
    assert "critic.ppo_max_token_len_per_gpu" in warning.message


@pytest.mark.parametrize("other", ["eager", "flex_attention", "flash_attention_3"])
def test_another_attention_is_the_users_choice(compose, other):
    assert attention.check(compose(*RECIPE, f"++{KEY}={other}")) == []


def test_with_it_it_is_used(compose, flash_attn):
    flash_attn("")
    config = compose(*RECIPE)
    assert config.actor_rollout_ref.model.override_config.attn_implementation == "flash_attention_2"
    assert attention.check(config) == []


def test_one_that_does_not_import_is_an_error(compose, flash_attn):
    flash_attn("raise ImportError('undefined symbol: _ZN3c10')")
    [error] = attention.check(compose(*RECIPE))
    assert error.startswith(
        f"{KEY} is flash_attention_2: flash-attn does not import (ImportError: undefined symbol: _ZN3c10); install it "
    )
    assert error.endswith(f", or set {KEY}=sdpa")


def test_it_is_an_error_where_it_was_asked_for(compose):
    [error] = attention.check(compose(*RECIPE, f"++{KEY}=flash_attention_2"))
    assert "does not import (ModuleNotFoundError: No module named 'flash_attn')" in error
    [error] = attention.check(compose(*RECIPE, f"~{KEY}"))  # verl's default
    assert error.startswith(f"{KEY} is flash_attention_2: ")


def test_no_other_machine_and_no_run_on_a_cpu_is_examined(compose, monkeypatch):
    config = compose(*RECIPE, f"++{KEY}=flash_attention_2")
    assert not any("flash-attn" in str(found) for found in examine(config, other_machine=True).errors)
    monkeypatch.setattr(attention, "accelerator_present", lambda: False)
    assert attention.check(config) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "cuda",
            "VERL_PLATFORM is cuda: no such platform (did you mean nvidia?); set it to one of cpu, nvidia, huawei",
        ),
        ("rocm", "VERL_PLATFORM is rocm: no such platform (did you mean amd?)"),
        ("nvdia", "VERL_PLATFORM is nvdia: no such platform (did you mean nvidia?)"),
    ],
)
def test_the_platform_has_a_name_that_verl_knows(compose, monkeypatch, name, says):
    config = compose(*RECIPE)
    monkeypatch.setenv("VERL_PLATFORM", name)
    assert examine(config).errors[0].startswith(says)
    for known in ("nvidia", "amd", "huawei", "cpu", "", " NVIDIA "):
        monkeypatch.setenv("VERL_PLATFORM", known)
        assert machine.platform_named(config) == []
