"""Every estimator under every option against loops that follow docs/algorithm.md token by token, in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforcepp_verl.algorithm import estimators
from reinforcepp_verl.algorithm.batch import RewardBatch
from reinforcepp_verl.algorithm.losses import clipped_surrogate
from reinforcepp_verl.algorithm.options import OPENRLHF

EXACT = {"atol": 1e-9, "rtol": 1e-9}
GROUPED = ("reinforcepp_baseline", "raft")
# A floor well above rounding noise, which a floor of 1e-8 would amplify by 1e4 when all returns are equal.
FLOOR = 1e-2


class SlowBatch:
    """The rows of a batch as lists, as docs/algorithm.md defines them."""

    def __init__(self, scores, mask, marks, kl, groups, sessions):
        self.mask, self.groups, self.sessions = mask, groups, sessions
        self.rows = [i for i, valid in enumerate(mask) if any(valid)]
        self.tokens = {i: [t for t, v in enumerate(mask[i]) if v] for i in self.rows}
        self.kl = {i: {t: kl[i][t] if kl else 0.0 for t in self.tokens[i]} for i in self.rows}
        self.score = {i: dict.fromkeys(self.tokens[i], 0.0) for i in self.rows}
        self.marked = {i: set() for i in self.rows}
        for i in self.rows:
            token = None
            for t, score in enumerate(scores[i]):
                token = t if mask[i][t] else token
                if token is not None:
                    self.score[i][token] += score
                    self.marked[i] |= {token} if marks[i][t] else set()
        self.raw_total = self.totals()

    def totals(self):
        return {i: math.fsum(self.score[i].values()) for i in self.rows}

    def share(self, i):
        return 1 / sum(self.sessions[j] == self.sessions[i] for j in self.rows)

    def peers(self, i):
        return [j for j in self.rows if self.groups[j] == self.groups[i]]

    def steps(self, i):
        return sorted(self.marked[i]) or self.tokens[i][-1:]

    def sessions_in_group(self, i):
        return len({self.sessions[j] for j in self.peers(i)})

    def signals(self, name, i):
        """The values of a row that are compared with others, before any group mean is subtracted."""
        if name == "reinforcepp_baseline":
            return {self.score[i][t] for t in self.steps(i)}
        total = math.fsum(self.score[i].values())
        early = any(self.score[i][t] for t in self.tokens[i][:-1])
        stepwise = name in ("reinforcepp", "reinforce_reward_to_go") and early
        return {total, ("row", i)} if stepwise else {total}

    def silent_rows(self, name):
        found = set()
        for i in self.rows:
            others = self.peers(i) if name in GROUPED else self.rows
            if len(set().union(*(self.signals(name, j) for j in others))) == 1:
                found.add(i)
        return found

    def clip(self, bounds):
        for row in self.score.values():
            for t in row:
                row[t] = min(max(row[t], bounds[0]), bounds[1])


def weighted(values, weights):
    count = math.fsum(weights)
    mean = math.fsum(w * v for v, w in zip(values, weights, strict=True)) / count if count else 0.0
    return count, mean, math.fsum(w * (v - mean) ** 2 for v, w in zip(values, weights, strict=True))


def variance(count, squares, options):
    denominator = count - 1 if options.unbiased_variance and count > 1.5 else count
    return squares / denominator if denominator else 0.0


def shape_scores(name, batch, options):
    scale, shift = options.reward_scale, 0.0
    if options.reward_norm == "batch" and batch.rows:
        totals = [batch.raw_total[i] for i in batch.rows]
        count, mean, squares = weighted(totals, [batch.share(i) for i in batch.rows])
        spread = variance(count, squares, options)
        scale /= math.sqrt(spread) if spread > options.variance_floor else 1.0
        shift = 0.0 if name == "reinforcepp_baseline" else -scale * mean
    for i in batch.rows:
        batch.score[i] = {t: scale * s for t, s in batch.score[i].items()}
        batch.score[i][batch.tokens[i][-1]] += shift


def center_scores(batch):
    totals, shares = batch.totals(), {i: batch.share(i) for i in batch.rows}
    steps = {i: batch.steps(i) for i in batch.rows}
    means = {}
    for i in batch.rows:
        peers = batch.peers(i)
        count = math.fsum(shares[j] * len(steps[j]) for j in peers)
        means[i] = math.fsum(shares[j] * totals[j] for j in peers) / max(count, 1)
    for i in batch.rows:
        for t in steps[i]:
            batch.score[i][t] -= means[i]


def slow_returns(name, batch, gamma):
    returns = {}
    totals = batch.totals()
    for i in batch.rows:
        if name in ("reinforce", "raft"):
            returns[i] = dict.fromkeys(batch.tokens[i], totals[i] - math.fsum(batch.kl[i].values()))
            continue
        running, returns[i] = 0.0, {}
        for t in reversed(batch.tokens[i]):
            running = returns[i][t] = batch.score[i][t] - batch.kl[i][t] + gamma * running
    return returns


def slow_shares_of_the_best(batch, returns):
    total = {i: next(iter(returns[i].values())) for i in batch.rows}
    members = {i: [j for j in batch.rows if batch.sessions[j] == batch.sessions[i]] for i in batch.rows}
    score = {i: max(total[j] for j in members[i]) for i in batch.rows}
    shares = {}
    for i in batch.rows:
        best = max(score[j] for j in batch.peers(i))
        winners = {batch.sessions[j] for j in batch.peers(i) if score[j] == best}
        shares[i] = 1 / len(winners) if score[i] == best else 0.0
    return {i: dict.fromkeys(batch.tokens[i], shares[i]) for i in batch.rows}


def slow_estimate(name, scores, mask, marks, kl, groups, sessions, options, gamma):
    """Return advantages as rows of tokens."""
    batch = SlowBatch(scores, mask, marks, kl, groups, sessions)
    if name != "raft":
        shape_scores(name, batch, options)
    late = name == "reinforcepp_baseline" and options.reward_clip_at == "after_baseline"
    if options.reward_clip and not late and name != "raft":
        batch.clip(options.reward_clip)
    silent = batch.silent_rows(name) if options.zero_signal == "pin" else set()
    if name == "reinforcepp_baseline":
        center_scores(batch)
        if options.reward_clip and late:
            batch.clip(options.reward_clip)
    returns = slow_returns(name, batch, gamma)
    if name == "raft":
        returns = slow_shares_of_the_best(batch, returns)

    pinned = silent | {i for i in batch.rows if name in GROUPED and batch.sessions_in_group(i) < 2}
    counted = [i for i in batch.rows if i not in pinned]

    center, scale = 0.0, 1.0
    if name.startswith("reinforcepp"):
        members = [(i, t) for i in counted for t in batch.tokens[i]]
        if options.population == "token":
            weights = [1.0] * len(members)
        else:
            in_session = {s: sum(batch.sessions[i] == s for i, _ in members) for s in sessions}
            weights = [1 / in_session[batch.sessions[i]] for i, _ in members]
        count, center, squares = weighted([returns[i][t] for i, t in members], weights)
        scale = 1 / math.sqrt(max(variance(count, squares, options), options.variance_floor))
    elif name == "reinforce" and options.baseline == "batch_mean":
        values = [next(iter(returns[i].values())) for i in batch.rows]
        _, center, _ = weighted(values, [batch.share(i) for i in batch.rows])
    elif name == "reinforce_reward_to_go" and options.baseline == "batch_mean":
        values = [g for i in batch.rows for g in returns[i].values()]
        _, center, _ = weighted(values, [1.0] * len(values))

    advantages = [[0.0] * len(row) for row in mask]
    for i in counted:
        for t in batch.tokens[i]:
            advantages[i][t] = (returns[i][t] - center) * scale
    return advantages


ROUND = st.integers(-8, 8).map(lambda n: n / 4)  # quarters: sums of them are exact, so that ties are ties


def without_start(row, valid):
    """Return the row with 0 before the first valid token, where a score is refused."""
    return [value if any(valid[: t + 1]) else 0 for t, value in enumerate(row)]


@st.composite
def batches(draw):
    rows, length = draw(st.integers(1, 7)), draw(st.integers(1, 9))

    def table(values):
        return draw(st.lists(st.lists(values, min_size=length, max_size=length), min_size=rows, max_size=rows))

    mask = table(st.booleans())
    if draw(st.booleans()):  # outcome scores, on the last position as verl puts them
        scores = [[0.0] * (length - 1) + [draw(ROUND)] for _ in range(rows)]
    else:
        scores = table(ROUND)
    scores = [without_start(row, valid) for row, valid in zip(scores, mask, strict=True)]
    marks = [without_start(row, valid) for row, valid in zip(table(st.booleans()), mask, strict=True)]
    marks = [[bool(m or s) for m, s in zip(*rows, strict=True)] for rows in zip(marks, scores, strict=True)]
    groups = draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))
    # A session's rows are answers to the same prompt.
    sessions = [10 * group + draw(st.integers(0, 2)) for group in groups]
    return scores, mask, marks, draw(st.sampled_from([None, table(ROUND)])), groups, sessions


@st.composite
def option_sets(draw):
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    return replace(
        OPENRLHF,
        variance_floor=FLOOR,
        population=pick("token", "sample"),
        unbiased_variance=pick(False, True),
        reward_norm=pick("none", "batch"),
        reward_scale=pick(1.0, 0.5),
        reward_clip=pick(None, [-0.5, 1.0]),
        reward_clip_at=pick("before_baseline", "after_baseline"),
        zero_signal=pick("keep", "pin"),
        baseline=pick("none", "batch_mean"),
    )


def fast_estimate(name, scores, mask, marks, kl, groups, sessions, options, gamma):
    batch = RewardBatch(
        torch.tensor(scores, dtype=torch.float64),
        torch.tensor(mask),
        None if kl is None else torch.tensor(kl, dtype=torch.float64),
        torch.tensor(groups),
        torch.tensor(sessions),
        torch.tensor(marks),
    )
    discount = {"gamma": gamma} if name in ("reinforcepp", "reinforce_reward_to_go") else {}
    return getattr(estimators, name)(batch, options, **discount).advantages


NAMES = ["reinforcepp", "reinforcepp_baseline", "reinforce", "reinforce_reward_to_go", "raft"]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(batches(), option_sets(), st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_estimators_equal_the_loops(name, batch, options, gamma):
    gamma = gamma if name in ("reinforcepp", "reinforce_reward_to_go") else 1.0
    expected = torch.tensor(slow_estimate(name, *batch, options, gamma), dtype=torch.float64)
    torch.testing.assert_close(fast_estimate(name, *batch, options, gamma), expected, **EXACT)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_rows_equal_the_loops(name, monkeypatch):
    monkeypatch.setattr("reinforcepp_verl.algorithm.returns.BLOCK_ELEMENTS", 30)
    generator = torch.Generator().manual_seed(1)
    scores = torch.randint(-3, 4, (7, 12), generator=generator).double().tolist()
    mask = (torch.rand(7, 12, generator=generator) > 0.3).tolist()
    scores = [without_start(row, valid) for row, valid in zip(scores, mask, strict=True)]
    args = (
        scores,
        mask,
        [[score != 0 for score in row] for row in scores],
        None,
        [0, 0, 0, 1, 1, 1, 1],
        [0, 1, 1, 2, 3, 4, 4],
        replace(OPENRLHF, reward_clip=[-2, 2]),
        1.0,
    )
    torch.testing.assert_close(
        fast_estimate(name, *args), torch.tensor(slow_estimate(name, *args), dtype=torch.float64), **EXACT
    )


@pytest.mark.parametrize("gamma", [1e-12, 0.01, 0.5, 0.97, 0.9999])
@pytest.mark.parametrize("length", [1, 2, 31, 700])
def test_segments_of_the_discounted_sum_at_awkward_lengths(gamma, length):
    generator = torch.Generator().manual_seed(length)
    scores = torch.randn(3, length, generator=generator, dtype=torch.float64)
    mask = torch.rand(3, length, generator=generator) > 0.3
    mask[0] = True
    scores *= mask.cumsum(-1) > 0
    marks, options = (scores != 0).tolist(), replace(OPENRLHF, reward_clip=None)
    args = (scores.tolist(), mask.tolist(), marks, None, [0, 1, 2], [0, 1, 2], options, gamma)
    torch.testing.assert_close(
        fast_estimate("reinforcepp", *args),
        torch.tensor(slow_estimate("reinforcepp", *args), dtype=torch.float64),
        **EXACT,
    )


def test_float32_is_close_to_the_float64_loop():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(8, 200, generator=generator)
    mask = torch.rand(8, 200, generator=generator) > 0.3
    scores *= mask.cumsum(-1) > 0
    marks = scores != 0
    groups, sessions = [0, 0, 1, 1, 1, 2, 2, 2], list(range(8))
    for name in NAMES:
        gamma = 0.99 if name in ("reinforcepp", "reinforce_reward_to_go") else 1.0
        slow = slow_estimate(
            name, scores.tolist(), mask.tolist(), marks.tolist(), None, groups, sessions, OPENRLHF, gamma
        )
        batch = RewardBatch(scores, mask, None, torch.tensor(groups), score_mask=marks)
        discount = {"gamma": gamma} if gamma != 1.0 else {}
        fast = getattr(estimators, name)(batch, OPENRLHF, **discount).advantages
        assert fast.dtype == torch.float32
        torch.testing.assert_close(fast, torch.tensor(slow), atol=2e-5, rtol=1e-5)


def loop_surrogate(new, old, advantage, low, high, dual):
    ratio = math.exp(max(-20.0, min(20.0, new - old)))
    loss = max(-advantage * ratio, -advantage * max(1 - low, min(1 + high, ratio)))
    return min(loss, -advantage * dual) if advantage < 0 else loss


@pytest.mark.parametrize("dual", [None, 3.0])
def test_loss_equals_the_loop_and_autograd_equals_finite_differences(dual):
    generator = torch.Generator().manual_seed(1)
    new, old, advantages = torch.randn(3, 6, 40, generator=generator, dtype=torch.float64)
    options = {"advantages": advantages, "clip_low": 0.2, "clip_high": 0.28, "dual_clip": dual}
    leaf = new.clone().requires_grad_()
    loss = clipped_surrogate(leaf, old, **options).loss
    cap = math.inf if dual is None else dual
    expected = [
        loop_surrogate(*token, 0.2, 0.28, cap)
        for token in zip(new.flatten().tolist(), old.flatten().tolist(), advantages.flatten().tolist(), strict=True)
    ]
    torch.testing.assert_close(loss.flatten(), torch.tensor(expected, dtype=torch.float64), **EXACT)
    loss.sum().backward()
    step = 1e-6
    above, below = (clipped_surrogate(new + h, old, **options).loss for h in (step, -step))
    torch.testing.assert_close(leaf.grad, (above - below) / (2 * step), atol=1e-6, rtol=1e-6)
