"""The numbers and code in docs/algorithm.md and docs/write_your_own_*.md, recomputed and run."""

import asyncio
import re
import runpy
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transfer_queue
from omegaconf import OmegaConf
from tensordict import TensorDict

from reinforcepp_verl.algorithm import estimators
from reinforcepp_verl.algorithm.batch import NonFiniteRewardError, RewardBatch
from reinforcepp_verl.algorithm.losses import ClipRange, LossBatch, clipped_surrogate
from reinforcepp_verl.algorithm.options import PRESETS, ReinforceppOptions
from reinforcepp_verl.algorithm.registry import ESTIMATORS, LOSSES

DOCS = Path(__file__).parents[2] / "docs"
ALGORITHM = (DOCS / "algorithm.md").read_text(encoding="utf-8")
EXAMPLES = DOCS / "examples"
DEFAULT, PIN = ReinforceppOptions(), ReinforceppOptions(zero_signal="pin")
PAPER, VERL = PRESETS["paper"], PRESETS["verl"]
CASES = {
    "advantages of reinforcepp": ("reinforcepp", DEFAULT, True),
    "advantages of reinforcepp, preset paper": ("reinforcepp", PAPER, True),
    "advantages of reinforcepp, preset verl": ("reinforcepp", VERL, True),
    "advantages of reinforcepp_baseline": ("reinforcepp_baseline", DEFAULT, False),
    "advantages of reinforcepp_baseline, zero_signal pin": ("reinforcepp_baseline", PIN, False),
    "advantages of reinforcepp_baseline, preset paper": ("reinforcepp_baseline", PAPER, False),
    "advantages of reinforcepp_baseline, kl in the reward": ("reinforcepp_baseline", DEFAULT, True),
}


def printed(title):
    """Read one block of the worked example: values (0 for a dot) and the mask of the tokens without a dot."""
    [block] = re.findall(rf"```\n{re.escape(title)}\n(.*?)```", ALGORITHM, flags=re.DOTALL)
    cells = [line.split()[1:] for line in block.splitlines()]
    values = [[0.0 if cell == "." else float(cell) for cell in row] for row in cells]
    return torch.tensor(values), torch.tensor([[cell != "." for cell in row] for row in cells])


def estimate(name, options, with_kl):
    scores, mask = printed("scores")
    kl_penalty = printed("kl penalties")[0] if with_kl else None
    batch = RewardBatch(scores, mask, kl_penalty, group_index=torch.tensor([0, 0, 1, 1]))
    return getattr(estimators, name)(batch, options)


@pytest.mark.parametrize("title", CASES)
def test_the_advantages_of_the_worked_example(title):
    advantages, mask = printed(title)
    assert torch.equal(mask, printed("scores")[1])
    torch.testing.assert_close(estimate(*CASES[title]).advantages, advantages, atol=6e-5, rtol=0)


@pytest.mark.parametrize("name", ["reinforcepp", "reinforcepp_baseline"])
def test_the_returns_of_the_worked_example(name):
    returns, _ = printed(f"returns of {name}")
    torch.testing.assert_close(estimate(name, DEFAULT, name == "reinforcepp").returns, returns)


def test_no_block_of_the_worked_example_is_left_out():
    blocks = re.findall(r"```\n(advantages .*)\n", ALGORITHM)
    assert sorted(blocks) == sorted(CASES)


@pytest.mark.parametrize(
    "name, with_kl, mean, std", [("reinforcepp", True, 0.6, 0.5), ("reinforcepp_baseline", False, -0.05, 0.35)]
)
def test_mean_and_deviation_of_the_worked_example(name, with_kl, mean, std):
    metrics = estimate(name, DEFAULT, with_kl).metrics
    assert metrics["reinforcepp/raw_advantage/mean"] == pytest.approx(mean)
    assert metrics["reinforcepp/raw_advantage/std"] == pytest.approx(std)
    assert f"= {mean}" in ALGORITHM and f"= {std}" in ALGORITHM


def test_the_loss_of_the_worked_example():
    from verl.trainer.ppo.core_algos import agg_loss

    advantages, mask = printed("advantages of reinforcepp")
    old_log_prob = torch.zeros_like(advantages)
    log_prob = old_log_prob.clone()
    log_prob[0, 0] = 0.3
    log_prob.requires_grad_()
    loss = clipped_surrogate(log_prob, old_log_prob, advantages=advantages, clip_low=0.2, clip_high=0.2).loss
    assert loss[0, 0].item() == pytest.approx(-1.44)
    assert agg_loss(loss, mask, "token-mean").item() == pytest.approx(-0.024, abs=1e-6)
    assert agg_loss(loss, mask, "seq-mean-token-mean").item() == pytest.approx(-0.1717, abs=1e-4)
    loss.sum().backward()
    assert log_prob.grad[0, 0] == 0 and (log_prob.grad[mask] == 0).sum() == 1


@pytest.fixture(scope="module")
def sketches():
    """Run the Python blocks of the document and return what they define."""
    blocks = re.findall(r"```python\n(.*?)```", ALGORITHM, flags=re.DOTALL)
    namespace = {"__name__": "sketches"}
    for block in blocks:
        exec(compile(block, "docs/algorithm.md", "exec"), namespace)
    assert {"StepScoredLoop", "StepRewards"} <= namespace.keys()
    return SimpleNamespace(**namespace)


def test_step_scores_of_an_agent_loop_reach_the_estimator(sketches, monkeypatch):
    from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput
    from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
    from verl.trainer.ppo.v1 import agent_loop_tq

    from reinforcepp_verl.integration import batch_context
    from reinforcepp_verl.integration.estimator_adapter import estimator_for_verl

    answer, written = "a=1\nso\nb", {}

    async def generated(self, sampling_params, **kwargs):
        ids = [ord(letter) for letter in answer]
        return AgentLoopOutput(
            prompt_ids=[1], response_ids=ids, response_mask=[1] * len(ids), metrics=AgentLoopMetrics(), extra_fields={}
        )

    async def score(_):
        return {"reward_score": 1.0, "reward_extra_info": {"acc": 1.0}}

    async def write(**content):
        written.update(content)

    async def run():
        output = await loop.run({})
        session = {"uid": "a", "session_id": 0, "global_steps": 1}
        await worker._agent_loop_postprocess(output, validate=False, **session)

    monkeypatch.setattr(SingleTurnAgentLoop, "run", generated)
    monkeypatch.setattr(transfer_queue, "async_kv_batch_put", write)
    loop = sketches.StepScoredLoop.__new__(sketches.StepScoredLoop)
    loop.tokenizer = SimpleNamespace(decode=lambda ids: "".join(map(chr, ids)))
    worker_class = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class
    worker = worker_class.__new__(worker_class)
    worker.processor, worker.distillation_enabled, worker.mm_processor_kwargs = None, False, {}
    worker.reward_loop_worker_handles = [SimpleNamespace(compute_score=SimpleNamespace(remote=score))]
    asyncio.run(run())

    rows = written["fields"]
    torch.testing.assert_close(rows["rm_scores"], torch.tensor([[0, 0, 0, 0.1, 0, 0, -0.1, 1.0]]))
    assert rows["score_mask"].tolist() == [[0, 0, 0, 1, 0, 0, 1, 1]]
    sessions = batch_context.session_index(written["keys"])
    context = batch_context.BatchContext(rows["rm_scores"], sessions, memory=None, score_mask=rows["score_mask"])
    config = OmegaConf.create({"gamma": 1.0})
    with batch_context.use_context(context):
        _, returns = estimator_for_verl("reinforcepp")(
            rows["rm_scores"], rows["response_mask"], config, np.array(["a"])
        )
    torch.testing.assert_close(returns, torch.tensor([[1, 1, 1, 1, 0.9, 0.9, 0.9, 1.0]]))


def test_step_scores_of_a_colocated_reward_model_reach_the_batch(sketches, monkeypatch):
    from verl import DataProto
    from verl.experimental.reward_loop import reward_loop

    async def compute_score(data):
        return [(token, 0.5) for token in range(0, data.batch["responses"].shape[-1], 2)]

    # verl loads the module by its path and finds the class in it.
    monkeypatch.setattr("verl.utils.import_utils.load_extern_object", lambda **_: sketches.StepRewards)
    monkeypatch.setattr("verl.trainer.ppo.reward.get_custom_reward_fn", lambda _: compute_score)
    manager_config = SimpleNamespace(source="importlib", name="StepRewards", module=SimpleNamespace(path="steps.py"))
    config = SimpleNamespace(
        reward=SimpleNamespace(
            reward_manager=manager_config, custom_reward_function=SimpleNamespace(path="steps.py"), reward_model=None
        )
    )
    from verl.trainer.ppo.reward import load_reward_manager, resolve_reward_manager_cls

    manager = load_reward_manager(config, None, reward_router_address="here", reward_model_tokenizer=None)

    def score_batch(data):
        worker = reward_loop.RewardLoopWorker.__new__(reward_loop.RewardLoopWorker)
        worker.config, worker.reward_manager = config, manager
        return asyncio.run(worker.compute_score_batch(data))

    monkeypatch.setattr(reward_loop.ray, "get", lambda outputs: outputs)
    trainer_side = SimpleNamespace(
        reward_model_manager=None,
        reward_loop_workers=[SimpleNamespace(compute_score_batch=SimpleNamespace(remote=score_batch))],
        reward_manager_cls=resolve_reward_manager_cls(config),
    )
    tensors = {"prompts": torch.ones(2, 1), "responses": torch.ones(2, 3), "attention_mask": torch.ones(2, 4)}
    data = DataProto(batch=TensorDict(tensors, batch_size=2))
    scores = reward_loop.RewardLoopManager.compute_rm_score(trainer_side, data).batch["rm_scores"]
    assert scores.tolist() == [[0.5, 0.0, 0.5]] * 2


@contextmanager
def restored_registries():
    """Start without the examples' entries, and restore the registries at the end."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

    registries = (ESTIMATORS, LOSSES, ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY)
    before = [dict(registry) for registry in registries]
    for registry in registries:
        for name in ("group_returns", "spo"):
            registry.pop(name, None)
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


@pytest.mark.parametrize("name", ["estimator", "loss"])
def test_an_example_prints_the_output_in_its_guide(name, capsys):
    with restored_registries():
        runpy.run_path(str(EXAMPLES / f"my_{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.strip() and printed in (DOCS / f"write_your_own_{name}.md").read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.parametrize("first", ["verl", "reinforcepp_verl.plugin"])
def test_verl_finds_the_examples_by_its_environment_variable(monkeypatch, first):
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES))
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "my_estimator,my_loss")
    code = (
        f"import {first}; from verl.trainer.ppo import core_algos; from reinforcepp_verl.algorithm import registry\n"
        "for name in ('group_returns', 'raft'): core_algos.get_adv_estimator_fn(name); registry.ESTIMATORS[name]\n"
        "for name in ('spo', 'reinforcepp'): core_algos.get_policy_loss_fn(name); registry.LOSSES[name]\n"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=240)


@pytest.fixture(scope="module")
def examples():
    """Import the examples, which registers them."""
    path = sys.path.copy()
    sys.path.insert(0, str(EXAMPLES))
    with restored_registries():
        import my_estimator
        import my_loss

        yield SimpleNamespace(group_returns=my_estimator.group_returns, spo=my_loss.spo, SpoOptions=my_loss.SpoOptions)
    sys.path[:] = path


@pytest.fixture
def group_returns(examples):
    return examples.group_returns


def test_the_example_loss_starts_as_a_policy_gradient_and_turns_at_epsilon(examples):
    advantages = torch.tensor([[2.0, -1.0, 3.0, -3.0]])
    old_log_prob = torch.full((1, 4), 0.5).log()
    for ratio, slope in ((1.0, -advantages), (1.3, torch.zeros(1, 4))):
        log_prob = (old_log_prob + torch.where(advantages > 0, ratio, 2 - ratio).log()).requires_grad_()
        batch = LossBatch(log_prob, old_log_prob, advantages, torch.ones(1, 4).bool(), ClipRange(0.2, 0.2))
        examples.spo(batch, examples.SpoOptions(epsilon=0.3)).loss.sum().backward()
        torch.testing.assert_close(log_prob.grad, slope, atol=1e-5, rtol=0)


GENERATOR = torch.Generator().manual_seed(0)
MASK = torch.tensor(
    [[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [1, 1, 0, 0, 1], [1, 0, 0, 0, 0], [0, 1, 1, 1, 0], [1, 1, 1, 0, 0]]
)
SCORES = torch.randn(6, 5, generator=GENERATOR) * MASK
GROUPS = torch.tensor([0, 1, 0, 1, 2, 2])


def advantages_of(estimator, scores=SCORES, mask=MASK, groups=GROUPS, **options):
    return estimator(RewardBatch(scores, mask, group_index=groups), replace(DEFAULT, **options)).advantages


def test_the_example_keeps_the_contract_of_masks_and_inputs(group_returns):
    expected = advantages_of(group_returns)
    assert (expected[MASK == 0] == 0).all() and expected[MASK == 1].abs().min() > 0
    padded = advantages_of(
        group_returns,
        torch.nn.functional.pad(SCORES, (0, 3, 0, 1)),
        torch.nn.functional.pad(MASK, (0, 3, 0, 1)),
        torch.cat([GROUPS, torch.tensor([9])]),
    )
    torch.testing.assert_close(padded[:6, :5], expected)
    assert (padded[6:] == 0).all() and (padded[:, 5:] == 0).all()
    assert advantages_of(group_returns, SCORES.half()).dtype == torch.float32
    before = SCORES.clone()
    holed = torch.where((MASK == 0) & (MASK.flip(-1).cumsum(-1).flip(-1) > 0), float("nan"), SCORES)
    torch.testing.assert_close(advantages_of(group_returns, holed), expected)
    assert torch.equal(before, SCORES)


def test_the_example_is_invariant_to_order_shift_and_scale(group_returns):
    expected = advantages_of(group_returns, reward_clip=None)
    order = torch.randperm(6, generator=GENERATOR)
    torch.testing.assert_close(
        advantages_of(group_returns, SCORES[order], MASK[order], GROUPS[order], reward_clip=None), expected[order]
    )
    torch.testing.assert_close(advantages_of(group_returns, 3 * SCORES, reward_clip=None), expected)
    last = MASK.cumsum(-1).argmax(-1)
    shifted = SCORES.clone()
    shifted[torch.arange(6), last] += torch.tensor([5.0, -2.0, 1.0])[GROUPS]
    torch.testing.assert_close(advantages_of(group_returns, shifted, reward_clip=None), expected)


def test_the_example_is_the_closed_form(group_returns):
    returns = torch.tensor([[1.0, 0.0], [0.0, 0.0], [3.0, 3.0]]).double()
    scores = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 3.0]])
    centered = returns - returns.mean()
    expected = centered / centered.square().mean().sqrt()
    torch.testing.assert_close(advantages_of(group_returns, scores, torch.ones(3, 2), torch.zeros(3)), expected.float())


def test_the_example_reads_our_options(group_returns):
    with pytest.raises(NonFiniteRewardError, match="row 0"):
        advantages_of(group_returns, torch.full_like(SCORES, float("nan")))
    silent = torch.where(GROUPS.unsqueeze(-1) == 2, 0.0, SCORES)
    assert advantages_of(group_returns, silent, zero_signal="pin")[GROUPS == 2].abs().sum() == 0
    assert advantages_of(group_returns, groups=torch.arange(6)).abs().sum() == 0, "nothing to compare with"
