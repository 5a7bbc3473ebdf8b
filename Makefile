# Every target is one or a few commands that you could type yourself. ARGS adds Hydra overrides, for example
#   make train ARGS="seed=2 trainer.total_training_steps=20"
# PYTHON names the Python to install on; without it requirements/pythons.sh finds the newest suitable one.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
RECIPE ?= math_rlvr/arithmetic
# .venv holds the CPU builds, so verl must use the CPU even if a GPU driver is loaded.
export VERL_PLATFORM ?= cpu
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install train test test-all test-without-ray test-pythons test-slurm check doctor lint hooks format types
.PHONY: pytest benchmark nodes lock build clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

install: $(INSTALLED) ## create .venv with everything for a machine without a GPU

# `venv` installs pip last, so pip marks a complete environment. To change its Python, remove the folder.
$(BIN)/pip:
	pythons=$$(sh requirements/pythons.sh $(PYTHON)) && set -- $$pythons && "$$1" -m venv $(VENV)

# torch is installed first and with its dependencies: without a CPU build pip installs the CUDA build, which runs on a
# CPU but needs its CUDA libraries. The rest is a complete list, hence --no-deps. uv installs it several times faster
# than pip but does not read pip's configuration (mirrors, proxies); if it finds no index, pip installs the list.
$(INSTALLED): requirements/cpu.txt requirements/reasoning_gym.txt setup.py | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --no-compile uv torch==2.13.0
	$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --no-deps -r requirements/cpu.txt || \
		$(BIN)/python -m pip install --no-compile --no-deps -r requirements/cpu.txt
	$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --no-deps -r requirements/reasoning_gym.txt || \
		$(BIN)/python -m pip install --no-compile --no-deps -r requirements/reasoning_gym.txt || \
		echo "reasoning-gym is not installed, and its tests are skipped: pycosat needs a C compiler and python3-dev"
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

train: $(INSTALLED) ## prepare the arithmetic task and train on it
	$(BIN)/reinforcepp prepare arithmetic
	$(BIN)/reinforcepp train +recipe=$(RECIPE) $(ARGS)

# Three workers for two cores, because many tests wait for a process. Files stay in their order: by default those with
# the fewest tests would run last, and these are the longest.
PARALLEL := -n 3 --dist loadfile --no-loadscope-reorder

test: lint ## everything that CI runs
	@$(MAKE) --no-print-directory --jobs=2 types pytest

pytest: $(INSTALLED) ## the tests that CI runs, without lint and types
	$(BIN)/python -m pytest -m "not slurm and not long" $(PARALLEL) --durations=10

test-all: test test-slurm ## also a verl script, every method, every fault, and training under Slurm
	$(BIN)/python -m pytest -m long -n 2 --dist loadfile --durations=20

test-without-ray: $(INSTALLED) ## the tests that start no Ray
	$(BIN)/python -m pytest -m "not e2e and not slurm and not long" $(PARALLEL)

test-pythons: ## the tests that start no Ray, on each Python found, in .venv-3.X
	@pythons=$$(sh requirements/pythons.sh $(PYTHON)) || exit; failed=0; \
	for python in $$pythons; do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		if $(MAKE) PYTHON=$$python VENV=.venv-$$version test-without-ray; \
		then echo "Python $$version: passed"; else echo "Python $$version: FAILED"; failed=1; fi; \
	done; exit $$failed

# Needs Slurm's daemons: apt-get install slurm-wlm munge.
test-slurm: $(INSTALLED) ## start a two-node Slurm on this machine and train in it
	$(BIN)/python -m pytest -m slurm --durations=0 -v

check: $(INSTALLED) ## check a recipe without starting anything
	$(BIN)/reinforcepp check +recipe=$(RECIPE) $(ARGS)

doctor: $(INSTALLED) ## report what this machine can run
	$(BIN)/reinforcepp doctor

lint: $(INSTALLED) ## style and imports between folders, without changing files
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

hooks: $(INSTALLED) ## lint and types before every commit
	$(BIN)/pre-commit install

nodes: $(INSTALLED) ## write hydra_configs/reinforcepp/ from the dataclasses of its nodes
	$(BIN)/python tools/write_nodes.py

format: $(INSTALLED) ## style, changing files
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types: $(INSTALLED) ## static types
	$(BIN)/mypy

benchmark: $(INSTALLED) ## ours against verl (estimators, math verifier, step time of the CPU job), reading of long runs
	$(BIN)/python benchmarks/advantages.py
	$(BIN)/python benchmarks/verifier_speed.py
	$(BIN)/python benchmarks/step_time.py
	$(BIN)/python benchmarks/readers.py

LOCK := $(BIN)/uv pip compile --python $(BIN)/python --universal --python-version 3.10 \
	--override requirements/cpu-overrides.txt --excludes requirements/cpu-excludes.txt \
	--no-emit-package torch --no-header --upgrade

lock: $(INSTALLED) ## refresh requirements/*.txt, one list for all Pythons, from the .in files
	$(LOCK) requirements/cpu.in --output-file requirements/cpu.txt
	$(LOCK) requirements/reasoning_gym.in --output-file requirements/reasoning_gym.txt

build: $(INSTALLED) ## wheel and source archive in dist/
	$(BIN)/python -m build --no-isolation

clean: ## remove files left by builds and tests; keeps runs/ and data/
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
