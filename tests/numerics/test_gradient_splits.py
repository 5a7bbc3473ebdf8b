"""The gradient of a mini-batch does not depend on its split into micro-batches and data-parallel ranks.

The losses go through verl's `ppo_loss`, which sets `global_batch_info`. Run as a script, this file is one of two ranks.
"""

import os
import subprocess
import sys
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict
from torch import distributed, nn
from torch.nn.functional import pad
from torch.nn.parallel import DistributedDataParallel
from verl.utils import tensordict_utils as tu
from verl.workers.config import FSDPActorConfig
from verl.workers.utils.losses import ppo_loss

from reinforcepp_verl.preflight.batch_sizes import LOSSES_OF_ONE_MICRO_BATCH

ROWS, LENGTH, FEATURES, VOCABULARY = 8, 12, 5, 7
ANSWER_LENGTHS = torch.tensor([12, 3, 7, 9, 1, 12, 5, 8])
EMPTY_ROW = 3
# Without a scale factor verl divides seq-mean-token-sum-norm by the longest answer of each micro-batch.
LOSSES = [
    ("token-mean", None),
    ("token-sum", None),
    ("seq-mean-token-sum", None),
    ("seq-mean-token-mean", None),
    ("seq-mean-token-sum-norm", 100),
]
# Ragged, and the last micro-batch of the second rank has no valid token.
RANKS = [torch.tensor([0, 1, 2]), torch.tensor([4, 5, 6, 7, EMPTY_ROW])]
ROWS_PER_MICRO_BATCH = 2


def mini_batch():
    """Return a softmax policy on features, and a mini-batch of sampled answers with gaps, padded."""
    generator = torch.Generator().manual_seed(11)
    policy = nn.Linear(FEATURES, VOCABULARY, dtype=torch.float64)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    features = torch.randn(ROWS, LENGTH, FEATURES, generator=generator, dtype=torch.float64)
    tokens = torch.randint(VOCABULARY, (ROWS, LENGTH), generator=generator)
    mask = torch.rand(ROWS, LENGTH, generator=generator) > 0.3
    mask[:, 0] = True
    mask[EMPTY_ROW] = False
    noise, advantages = torch.randn(2, ROWS, LENGTH, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        log_prob = policy(features).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    return policy, {
        "features": features,
        "responses": tokens,
        "response_mask": mask.long(),
        "old_log_probs": log_prob - 0.3 * noise,
        "advantages": advantages,
        "rollout_is_weights": torch.rand(ROWS, LENGTH, generator=generator, dtype=torch.float64),
    }


def micro_batch(batch, rows):
    """Take rows as verl's engine passes them to a loss: jagged, each after a prompt of one token."""
    fields = {
        name: torch.nested.as_nested_tensor([values[i, : ANSWER_LENGTHS[i]] for i in rows], layout=torch.jagged)
        for name, values in batch.items()
    }
    fields["prompts"] = torch.nested.as_nested_tensor([torch.zeros(1).long() for _ in rows], layout=torch.jagged)
    return TensorDict(fields, batch_size=len(rows))


def response_log_probs(policy, data):
    """Flat log-probabilities of prompts and answers, each at the position before its token, as a model gives them."""
    log_prob = policy(data["features"].values()).log_softmax(-1)
    log_prob = log_prob.gather(-1, data["responses"].values()[:, None])[:, 0]
    answers = log_prob.tensor_split(data["responses"].offsets()[1:-1].tolist())
    return torch.cat([pad(answer, (0, 1)) for answer in answers])


def gradient(policy, batch, loss, *, rows, rows_per_micro_batch, ranks=1, loss_mode="reinforcepp"):
    """Sum the micro-batches' gradients; across ranks DDP averages them with the last micro-batch, as verl's engine."""
    mode, loss_scale_factor = loss
    config = FSDPActorConfig(
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=1,
        loss_agg_mode=mode,
        loss_scale_factor=loss_scale_factor,
        policy_loss={"loss_mode": loss_mode},
    )
    policy.zero_grad()
    batch_num_tokens = micro_batch(batch, rows)["response_mask"].sum()
    if ranks > 1:
        distributed.all_reduce(batch_num_tokens)
    parts = rows.split(rows_per_micro_batch)
    for part in parts:
        data = micro_batch(batch, part)
        tu.assign_non_tensor(data, dp_size=ranks, batch_num_tokens=batch_num_tokens.item(), global_batch_size=ROWS)
        with nullcontext() if ranks == 1 or part is parts[-1] else policy.no_sync():
            ppo_loss(config, {"log_probs": response_log_probs(policy, data)}, data)[0].backward()
    return torch.cat([parameter.grad.flatten() for parameter in policy.parameters()])


def whole(loss):
    return gradient(*mini_batch(), loss, rows=torch.arange(ROWS), rows_per_micro_batch=ROWS)


@pytest.mark.parametrize("loss", LOSSES, ids=[mode for mode, _ in LOSSES])
def test_the_split_into_micro_batches_does_not_change_the_gradient(loss):
    expected = whole(loss)
    assert expected.abs().min() > 1e-6
    for rows_per_micro_batch in (1, 3):
        for order in (torch.arange(ROWS), torch.tensor([5, 3, 0, 7, 1, 6, 2, 4])):
            actual = gradient(*mini_batch(), loss, rows=order, rows_per_micro_batch=rows_per_micro_batch)
            torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-10)


def test_without_a_scale_factor_the_norm_depends_on_the_split():
    # verl's agg_loss uses the width of the padded micro-batch as the horizon.
    loss = ("seq-mean-token-sum-norm", None)
    cut = gradient(*mini_batch(), loss, rows=torch.arange(ROWS), rows_per_micro_batch=1)
    assert (cut / whole(loss) - 1).abs().max() > 0.1


@pytest.mark.parametrize(
    ("loss_mode", "parts"), [("gspo", 1), ("cispo", 1), ("sapo", 1), *((name, 8) for name in LOSSES_OF_ONE_MICRO_BATCH)]
)
def test_verls_losses_whose_gradient_does_not_depend_on_the_split_and_those_that_grow_with_it(loss_mode, parts):
    loss, rows = ("seq-mean-token-mean", None), torch.arange(ROWS)
    policy, batch = mini_batch()
    at_once = gradient(policy, batch, loss, rows=rows, rows_per_micro_batch=ROWS, loss_mode=loss_mode)
    cut = gradient(policy, batch, loss, rows=rows, rows_per_micro_batch=1, loss_mode=loss_mode)
    torch.testing.assert_close(cut, parts * at_once, atol=1e-12, rtol=1e-10)


@pytest.fixture(scope="module")
def gradients_of_two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    logs = [folder / f"{rank}.log" for rank in range(len(RANKS))]
    processes = []
    try:
        for rank, log in enumerate(logs):
            command = [sys.executable, __file__, str(rank), str(folder)]
            with log.open("w") as output:
                processes.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
        for process in processes:
            process.wait(timeout=300)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    text = "\n".join(log.read_text() for log in logs)
    assert [process.returncode for process in processes] == [0, 0], text
    return [torch.load(folder / f"{rank}.pt") for rank in range(len(RANKS))]


@pytest.mark.parametrize("loss", LOSSES, ids=[mode for mode, _ in LOSSES])
def test_two_gloo_ranks_give_the_gradient_of_one_process(gradients_of_two_ranks, loss):
    first, second = (found[loss[0]] for found in gradients_of_two_ranks)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, whole(loss), atol=1e-12, rtol=1e-10)


def run_rank(rank, folder):
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'rendezvous'}",
        rank=rank,
        world_size=len(RANKS),
        timeout=timedelta(seconds=60),  # in case the other rank has died
    )
    policy, batch = mini_batch()
    policy = DistributedDataParallel(policy)
    found = {
        loss[0]: gradient(
            policy, batch, loss, rows=RANKS[rank], rows_per_micro_batch=ROWS_PER_MICRO_BATCH, ranks=len(RANKS)
        )
        for loss in LOSSES
    }
    torch.save(found, folder / f"{rank}.pt")
    distributed.barrier()
    # gloo's cleanup sometimes hangs when the other rank was faster; nothing is left to clean up.
    os._exit(0)


if __name__ == "__main__":
    run_rank(int(sys.argv[1]), Path(sys.argv[2]))
