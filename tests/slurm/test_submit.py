"""`reinforcepp slurm`: what is passed to sbatch, what is refused, with stubs for Slurm."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from reinforcepp_verl.preflight import secrets
from reinforcepp_verl.slurm import job, site
from reinforcepp_verl.slurm.resources import Resources, required_resources
from reinforcepp_verl.slurm.submit_job import Request, submit

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("slurm_4x8_gpus.txt")
FOUR_NODES = ("+recipe=math_rlvr/qwen25_7b_dapo_4nodes", "cluster=h100x8_4nodes")
CPU = ("+recipe=math_rlvr/arithmetic",)
SEPARATE = ("+recipe=math_rlvr/qwen25_7b_dapo_separate_async", "cluster=h100x8")
SHELL_FILES = sorted(ROOT.glob("recipes/slurm/*"))


@pytest.fixture(autouse=True)
def no_sites_of_ours(monkeypatch):
    monkeypatch.delenv("SITE_ENV", raising=False)


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch) -> Callable[[], list[dict]]:
    """Put an sbatch into PATH that accepts every job; return a function that lists its calls so far."""
    stub, calls = tmp_path / "bin" / "sbatch", tmp_path / "calls"
    stub.parent.mkdir()
    stub.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"open({str(calls)!r}, 'a').write(json.dumps([sys.argv[1:], dict(os.environ)]) + '\\n')\n"
        "print('4711;cluster' if '--test-only' not in sys.argv else 'would start', flush=True)\n"
        "sys.exit('sbatch: error: invalid partition' if '--partition=none' in sys.argv else 0)\n"
    )
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(stub.parent), prepend=":")
    monkeypatch.chdir(tmp_path)
    return lambda: [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []


def test_the_job_of_four_nodes_with_eight_gpus(compose, tmp_path, monkeypatch, capsys):
    """The reviewed text: docs/slurm.md goes through it point by point."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.env").write_text((ROOT / "recipes/slurm/site.env.example").read_text())
    submit(compose(*FOUR_NODES), Request(time="12:00:00", dry_run=True))
    shown, _, configuration = capsys.readouterr().out.partition("# configuration\n")
    shown = shown.replace(str(tmp_path), "/shared/project").replace(str(ROOT), "/shared/reinforcepp")
    assert shown == GOLDEN.read_text()
    assert OmegaConf.create(configuration).trainer.nnodes == 4
    assert not (tmp_path / "runs").exists(), "a dry run makes nothing"


@pytest.mark.parametrize(
    ("overrides", "nodes", "expected"),
    [
        (FOUR_NODES, None, Resources(nodes=4, device="cuda", gpus=8, cpus=None)),
        (CPU, None, Resources(nodes=1, device="cpu", gpus=1, cpus=16)),
        ((*CPU, "trainer.nnodes=2"), 2, Resources(nodes=2, device="cpu", gpus=1, cpus=16)),
        # Four GPUs that train and four that generate.
        (SEPARATE, None, Resources(nodes=1, device="cuda", gpus=8, cpus=None)),
        (SEPARATE, 2, Resources(nodes=2, device="cuda", gpus=4, cpus=None)),
    ],
)
def test_nodes_and_gpus_come_from_the_configuration(compose, overrides, nodes, expected):
    assert required_resources(compose(*overrides), nodes) == expected


def test_node_counts_other_than_the_configurations_are_refused(compose):
    with pytest.raises(ValueError, match=r"^--nodes=2: trainer.nnodes is 4; use --nodes=4, or set trainer.nnodes=2$"):
        required_resources(compose(*FOUR_NODES), 2)
    with pytest.raises(ValueError, match=r"^--nodes=3: it must divide the 8 GPUs"):
        required_resources(compose(*SEPARATE), 3)


@pytest.mark.parametrize(("array", "seeds"), [("1,2,3", [1, 2, 3]), ("4-6%2", [4, 5, 6]), ("0,7-8", [0, 7, 8])])
def test_seeds(array, seeds):
    assert job.parse_seeds(array) == seeds


@pytest.mark.parametrize("array", ["", "a", "1,1", "3-1", "1-9:2", "1,2%0"])
def test_invalid_seeds(array):
    with pytest.raises(ValueError, match=f"^--array {re.escape(array)}: "):
        job.parse_seeds(array)


@pytest.mark.parametrize("array", ["1-3000000", "0-1000", "1-600,1001-1600", "1-999999999999999999"])
def test_more_seeds_than_a_job_can_have_are_refused(array):
    with pytest.raises(ValueError, match=rf"^--array {array}: \d+ runs, at most 1000 in one job; submit several$"):
        job.parse_seeds(array)


def test_submit_creates_the_run_and_passes_its_path_to_the_job(compose, sbatch, tmp_path, capsys):
    submit(compose(*CPU, "seed=5"), Request())
    [run] = [path for path in (tmp_path / "runs").iterdir() if not path.is_symlink()]
    (checked, _), (arguments, environment) = sbatch()
    assert "--test-only" in checked and "--test-only" not in arguments
    assert arguments[-1] == str(ROOT / "recipes" / "slurm" / "train.sbatch")
    assert environment["REINFORCEPP_SLURM_RUN"] == str(run)
    assert (run / "slurm" / "job_id").read_text() == "4711\n"
    assert OmegaConf.load(run / "config.yaml").seed == 5
    assert capsys.readouterr().out == f"job 4711: {run}\n"


def test_an_array_has_a_run_for_each_seed(compose, sbatch, tmp_path):
    submit(compose(*CPU), Request(array="3,5%1"))
    arguments, environment = sbatch()[-1]
    assert {"--array=3,5%1", f"--output={tmp_path}/runs/slurm-%A_%a.log"} <= set(arguments)
    for seed in (3, 5):
        run = Path(environment[f"REINFORCEPP_SLURM_RUN_{seed}"])
        config = OmegaConf.load(run / "config.yaml")
        assert (config.seed, config.data.seed, config.actor_rollout_ref.rollout.seed) == (seed, seed, seed)
        assert (run / "slurm" / "job_id").read_text() == f"4711_{seed}\n"


def test_secrets_are_not_passed_on(compose, sbatch, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789")
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    submit(compose(*CPU), Request())
    output = capsys.readouterr()
    assert "not passed to the job: HF_TOKEN, WANDB_API_KEY; put them into SECRETS_FILE" in output.err
    assert "0123456789" not in output.out + output.err + json.dumps(sbatch())


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        *[(f"MY_{end}", "abcdefgh", True) for end in ("KEY", "pat", "PWD", "PASS", "PASSWORD", "CREDENTIALS", "TOKEN")],
        ("PLAIN", "hf_" + "a" * 34, True),
        ("https_proxy", "http://user:password@host:80", True),
        ("https_proxy", "http://host:80", False),
        *[(name, "/shared/project", False) for name in ("PWD", "OLDPWD", "PATH", "KEYS", "PATIENT", "MONKEY")],
    ],
)
def test_secret_variables(name, value, secret):
    assert secrets.is_secret_variable(name, value) is secret


def test_a_job_that_slurm_refuses_leaves_no_run(compose, sbatch, tmp_path):
    (tmp_path / "site.env").write_text("SBATCH_ARGS=(--partition=none)")
    with pytest.raises(ValueError, match="^sbatch refused the job: would start sbatch: error: invalid partition$"):
        submit(compose(*CPU), Request())
    assert not (tmp_path / "runs").exists()


def test_test_only_queries_slurm_and_creates_nothing(compose, sbatch, tmp_path, capsys):
    submit(compose(*CPU), Request(test_only=True))
    assert capsys.readouterr().out == "would start\n"
    assert len(sbatch()) == 1
    assert not (tmp_path / "runs").exists()


def test_without_sbatch(compose, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="^sbatch is not on PATH: submit from a login node"):
        submit(compose(*CPU), Request())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sleep 60", "not read within 1 s; it must only set variables"),
        ("sleep 60 &", "not read within 1 s; it must only set variables"),
        ("exit 0", r"it ends Bash \(exit\), and with it every job; it must only set variables"),
        ("exit 3", "Bash ended with exit code 3"),
        ("false", "Bash ended with exit code 1"),
        ("module load nothing", "line 1: module: command not found"),
        ("read -r answer", "Bash ended with exit code 1"),
    ],
)
def test_a_site_env_that_cannot_be_read(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(site, "TIME_LIMIT_S", 1 if "sleep" in content else 30)
    (tmp_path / "site.env").write_text(content)
    with pytest.raises(ValueError, match=rf"site.env: .*{message}; correct it \(recipes/slurm/site.env.example\)$"):
        site.read(tmp_path)


def test_site_options(tmp_path, monkeypatch):
    (tmp_path / "site.env").write_text(
        "SBATCH_ARGS=(--account=a '--comment=b c')\nGPU_TYPE=h100$NOT_SET\nactivate() { exit 1; }\n"
    )
    found = site.read(tmp_path)
    assert (found.sbatch_args, found.gpu_type) == (("--account=a", "--comment=b c"), "h100")
    command = job.Job("x", Resources(1, "cuda", 8, None), found, tmp_path).command()
    assert {"--comment=b c", "--gpus-per-node=h100:8"} <= set(command) and "--exclusive" not in command
    assert command.index("--export=ALL") < command.index("--account=a"), "the site has the last word"
    monkeypatch.setenv("SITE_ENV", str(tmp_path / "missing.env"))
    with pytest.raises(ValueError, match=r"missing.env: .*No such file.*; correct it"):
        site.read(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--multirun", "seed=1,2"), "error: --multirun: not available here; use --array 1,2,3"),
        (("--array", "1,2", "seed=1"), "error: seed=1: --array 1,2 sets the seed"),
        (("algorithm.gama=1",), "did you mean algorithm.gamma?"),
    ],
)
def test_the_command_refuses_in_one_line(arguments, says, tmp_path, monkeypatch):
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    command = [Path(sys.executable).with_name("reinforcepp"), "slurm", "submit", *CPU, *arguments, "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr


def test_a_dry_run_needs_neither_data_nor_model_and_names_them(tmp_path, monkeypatch):
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    command = [Path(sys.executable).with_name("reinforcepp"), "slurm", "submit", FOUR_NODES[0], "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert "data.train_files: no such file: data/dapo_math_17k/train.parquet" in done.stderr
    assert "Qwen/Qwen2.5-7B is not on this machine: it is downloaded when training starts" in done.stderr


@pytest.mark.parametrize("file", SHELL_FILES, ids=lambda file: file.name)
def test_shell_files_pass_shellcheck(file):
    assert subprocess.run(["bash", "-n", file], capture_output=True, text=True).stderr == ""
    command = [Path(sys.executable).with_name("shellcheck"), "--external-sources", file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
