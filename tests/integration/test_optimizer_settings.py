"""A changed learning rate on resume, with verl's own schedules and the state that its checkpoint manager loads."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from verl.utils.torch_functional import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

from reinforcepp_verl.integration import optimizer_settings

SCHEDULES = {
    "constant": lambda adam: get_constant_schedule_with_warmup(adam, num_warmup_steps=4),
    "cosine": lambda adam: get_cosine_schedule_with_warmup(adam, num_warmup_steps=4, num_training_steps=20),
}


class Group:
    """One FSDP worker, and verl's way to run a function on it."""

    def __init__(self, schedule, **settings):
        torch.manual_seed(0)
        self.weight = torch.nn.Parameter(torch.ones(3))
        adam = torch.optim.AdamW([self.weight], **settings)
        self.engine = SimpleNamespace(optimizer=adam, lr_scheduler=SCHEDULES[schedule](adam))

    def execute_with_func_generator(self, func):
        assert func(self).batch is not None

    def train(self, steps):
        rates = []
        for _ in range(steps):
            self.weight.grad = self.weight.detach().clone()
            rates.append(self.engine.optimizer.param_groups[0]["lr"])
            self.engine.optimizer.step()
            self.engine.lr_scheduler.step()
        return rates

    def load(self, other):
        """Load as verl's checkpoint manager does."""
        self.weight.data.copy_(other.weight.data)
        self.engine.optimizer.load_state_dict(other.engine.optimizer.state_dict())
        self.engine.lr_scheduler.load_state_dict(other.engine.lr_scheduler.state_dict())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_changed_learning_rate_applies_from_the_first_step_and_the_schedule_continues(schedule):
    old, alone = (Group(schedule, lr=1e-3, weight_decay=0.1) for _ in range(2))
    expected = [rate / 10 for rate in alone.train(10)[3:]]
    old.train(3)
    resumed = Group(schedule, lr=1e-4, weight_decay=0.0, betas=(0.8, 0.9))
    with optimizer_settings.kept_from_config([resumed]):
        resumed.load(old)
    assert resumed.train(7) == pytest.approx(expected)
    settings = resumed.engine.optimizer.param_groups[0]
    assert (settings["weight_decay"], settings["betas"]) == (0.0, (0.8, 0.9))
    assert resumed.engine.optimizer.state[resumed.weight]["step"] == 10


def test_without_a_change_the_settings_equal_the_checkpoints_exactly():
    old, resumed, alone = (Group("cosine", lr=1e-3) for _ in range(3))
    old.train(6)
    with optimizer_settings.kept_from_config([resumed]):
        resumed.load(old)
    assert resumed.train(4) == alone.train(10)[6:]
    assert torch.equal(resumed.weight, alone.weight)
