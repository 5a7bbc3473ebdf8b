"""The last lines of the console after a failed attempt: the cause, the process, and its last output."""

from __future__ import annotations

import shutil

import pytest

from reinforcepp_verl.common.run_folder import Attempt
from reinforcepp_verl.runs.failure_cause import LINE_LENGTH, failure_cause

WORKER = "reward worker reward_loop_worker_0 (pid 12 on 10.0.0.2) died"
WATCHDOG_LINE = f"(TaskRunnerV1 pid=7) CRITICAL:guards: {WORKER}: its process is gone; ending the run\n"
# Ray's message, as an agent loop worker prints it after a call to a dead reward worker.
DEAD_IN_LOG = """\
\x1b[36m(RewardLoopWorker pid=12, ip=10.0.0.2)\x1b[0m scored 5 answers
\x1b[36m(AgentLoopWorkerTQ pid=8)\x1b[0m ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing it.
\x1b[36m(AgentLoopWorkerTQ pid=8)\x1b[0m \tclass_name: RewardLoopWorker
\x1b[36m(AgentLoopWorkerTQ pid=8)\x1b[0m \tactor_id: 0a1b
\x1b[36m(AgentLoopWorkerTQ pid=8)\x1b[0m \tpid: 12
\x1b[36m(AgentLoopWorkerTQ pid=8)\x1b[0m \tname: reward_loop_worker_0
\x1b[36m(AgentLoopWorkerTQ pid=8)\x1b[0m \tnamespace: 0c2d
\x1b[36m(AgentLoopWorkerTQ pid=8)\x1b[0m \tip: 10.0.0.2
"""
FSDP_NOTE = """\
ActorDiedError: The actor died unexpectedly before finishing this task.
\tclass_name: create_colocated_worker_cls.<locals>.WorkerDict
\tactor_id: 0a1b
\tpid: 30
\tname: global_poolWorkerDict_0:1
\tnamespace: 0c2d
\tip: 10.0.0.3
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR
"""
TRAINER_NOTE = """\
ActorDiedError: The actor died unexpectedly before finishing this task.
\tclass_name: TaskRunnerV1
\tactor_id: 0a1b
\tpid: 7
\tnamespace: 0c2d
\tip: 10.0.0.2
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR
"""


@pytest.fixture
def explain(tmp_path):
    """Return a function that explains a log and a note."""

    def explain_both(log, note=None, exit_code=1):
        attempt = Attempt(tmp_path)
        attempt.log.write_text(log)
        if note is not None:
            attempt.failure.write_text(note)
        return failure_cause(attempt, exit_code)

    return explain_both


@pytest.mark.parametrize("note", [None, TRAINER_NOTE, "FailedRolloutError: 3 of 4 groups failed\n"])
def test_the_message_of_a_guard_comes_first_with_the_last_output_of_the_process(explain, note):
    log = "(RewardLoopWorker pid=12, ip=10.0.0.2) loading\n(RewardLoopWorker pid=12, ip=10.0.0.2) ready  \n"
    assert explain(f"{log}(RewardLoopWorker pid=12, ip=10.0.0.2) \n(Other pid=123) x\n{WATCHDOG_LINE}", note) == (
        f"{WORKER}: its process is gone\nits log last said: ready"
    )


def test_a_process_that_printed_nothing(explain):
    assert explain(WATCHDOG_LINE).endswith("died: its process is gone\nits log says nothing")


def test_a_hanging_training_loop_has_no_log_of_its_own(explain):
    trouble = "the training loop hangs: 9 s in f (g.py:1); an FSDP worker may hang"
    assert explain(f"(TaskRunnerV1 pid=7) guards: {trouble}; ending the run\n", TRAINER_NOTE) == trouble


def test_a_dead_worker_is_named_from_the_note(explain):
    assert explain("(WorkerDict pid=30, ip=10.0.0.3) update 3\n", FSDP_NOTE) == (
        "FSDP worker global_poolWorkerDict_0:1 (pid 30 on 10.0.0.3) died during the run\nits log last said: update 3"
    )


@pytest.mark.parametrize("note", ["FailedRolloutError: 3 of 4 groups failed\n", TRAINER_NOTE])
def test_a_dead_worker_is_named_from_the_log_before_those_that_died_with_it(explain, note):
    assert explain(DEAD_IN_LOG, note) == f"{WORKER} during the run\nits log last said: scored 5 answers"


def test_a_dead_engine_is_named_by_its_server(explain):
    log = (
        "(SeededAgentLoopWorker pid=8) x.EngineDeadError: y\n"
        "(vLLMHttpServer pid=9, ip=10.0.0.2) ERROR x.EngineDeadError: y\n"
        "(vLLMHttpServer pid=9, ip=10.0.0.2) cleaning up\n"
    )
    assert explain(log, "FailedRolloutError: 3 of 4 groups failed\n") == (
        "vLLM engine (server pid 9 on 10.0.0.2) died during the run\nits log last said: cleaning up"
    )


def test_the_trainer_itself(explain):
    assert explain("(TaskRunnerV1 pid=7) step 3\n", TRAINER_NOTE) == (
        "trainer (pid 7 on 10.0.0.2) died during the run\nits log last said: step 3"
    )


def test_a_stalled_rollout_comes_with_the_last_output_of_the_silent_process(explain):
    note = (
        "StalledRolloutError: no rollout has finished for 60 s: vLLM engine e (pid 9 on h) has not answered for 55 s\n"
    )
    assert explain("(vLLMHttpServer pid=9) (EngineCore pid=11) INFO: step\n", note) == (
        f"{note}its log last said: (EngineCore pid=11) INFO: step"
    )


def test_an_earlier_error_is_not_taken_for_a_later_one(explain):
    assert explain(DEAD_IN_LOG, "GuardError: for 3 steps in a row actor/grad_norm is nan\n").startswith(
        "GuardError: for 3"
    )


def test_a_long_line_is_cut(explain):
    assert len(explain(f"(RewardLoopWorker pid=12) {'x' * 999}\n{WATCHDOG_LINE}").splitlines()[1]) == LINE_LENGTH


def test_a_full_disk_is_reported_even_if_nothing_could_be_written(explain, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4096))
    assert explain("") == f"no space is left on the disk of {tmp_path}: make room, then resume"
    assert explain("", "RuntimeError: file write failed\n").endswith("then resume\nRuntimeError: file write failed")


ENGINE_LOG = """\
\x1b[36m(vLLMHttpServer pid=9)\x1b[0m (EngineCore pid=12) ERROR 11-28 12:00:00 [core.py:1435] EngineCore encountered a fatal error.
(WorkerDict pid=30) update 3
\x1b[36m(vLLMHttpServer pid=9)\x1b[0m (EngineCore pid=12) ERROR 11-28 12:00:00 [core.py:1435] Traceback (most recent call last):
\x1b[36m(vLLMHttpServer pid=9)\x1b[0m (EngineCore pid=12) ERROR 11-28 12:00:00 [core.py:1435]   File "a.py", line 1, in run
\x1b[36m(vLLMHttpServer pid=9)\x1b[0m (EngineCore pid=12) ERROR 11-28 12:00:00 [core.py:1435] torch.OutOfMemoryError: no memory
\x1b[36m(vLLMHttpServer pid=9)\x1b[0m (EngineCore pid=12) ERROR 11-28 12:00:00 [core.py:1435]
\x1b[36m(vLLMHttpServer pid=9)\x1b[0m (EngineCore pid=12) ERROR 11-28 12:00:00 [core.py:1435] The above exception was the direct cause of the following exception:
\x1b[36m(vLLMHttpServer pid=9)\x1b[0m (EngineCore pid=12) ERROR 11-28 12:00:00 [core.py:1435] RuntimeError: step failed
"""  # noqa: E501
CONSEQUENCES = "(vLLMHttpServer pid=9) ERROR x vllm.v1.engine.exceptions.EngineDeadError: EngineCore had an issue\n"


@pytest.mark.parametrize(
    "note", [None, "EngineDeadError: EngineCore encountered an issue\n", "FailedRolloutError: 24 of 24 groups failed\n"]
)
def test_an_engine_that_died_is_named_with_its_own_error(explain, note):
    """Its consequences fill the log behind it."""
    assert explain(ENGINE_LOG + 8000 * CONSEQUENCES, note) == (
        "vLLM engine (server pid 9) died during the run\nits error: torch.OutOfMemoryError: no memory"
    )


def test_engines_that_die_together_are_told_apart(explain):
    other = [line.replace("pid=12", "pid=13").replace("no memory", "other") for line in ENGINE_LOG.splitlines(True)]
    both = "".join(line for pair in zip(ENGINE_LOG.splitlines(True), other, strict=True) for line in pair)
    assert explain(both + CONSEQUENCES, "EngineDeadError: x\n").endswith("its error: torch.OutOfMemoryError: no memory")


# vLLM's own lines, as Ray prints them.
START_LOG = """\
(vLLMHttpServer pid=9) (EngineCore pid=12) ERROR 11-28 19:51:13 [core.py:1433] EngineCore failed to start.
(vLLMHttpServer pid=9) (EngineCore pid=12) ERROR 11-28 19:51:13 [core.py:1433] Traceback (most recent call last):
(vLLMHttpServer pid=9) (EngineCore pid=12) ERROR 11-28 19:51:13 [core.py:1433]   File "core.py", line 1395, in run_engine_core
(vLLMHttpServer pid=9) (EngineCore pid=12) ERROR 11-28 19:51:13 [core.py:1433]     raise ValueError(
(vLLMHttpServer pid=9) (EngineCore pid=12) ERROR 11-28 19:51:13 [core.py:1433] {error}
(vLLMHttpServer pid=9) Process EngineCore:
(vLLMHttpServer pid=9) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {{}}
"""  # noqa: E501
START_NOTE = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ValueError: Decrease VLLM_CPU_KVCACHE_SPACE", "ValueError: Decrease VLLM_CPU_KVCACHE_SPACE"),
        (
            "pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
            "(vLLMHttpServer pid=9) (EngineCore pid=12) ERROR 11-28 19:51:13 [core.py:1433]   Value error, no such "
            "model [type=value_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]",
            "pydantic_core.ValidationError: 1 validation error for ModelConfig: Value error, no such model",
        ),
    ],
)
def test_an_engine_that_does_not_start_is_reported_with_its_own_error(explain, error, said):
    assert explain(START_LOG.format(error=error), START_NOTE) == f"the vLLM engine failed to start\nits error: {said}"


def test_without_a_traceback_of_the_engine_the_note_remains(explain):
    assert explain("", START_NOTE) == START_NOTE.strip()
