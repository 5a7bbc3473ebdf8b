# Every target is one or a few commands that you could type yourself. ARGS passes Hydra overrides on, for example
#   make train ARGS="seed=2 trainer.total_training_steps=20"
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
RECIPE ?= math_rlvr/arithmetic_cpu
# .venv holds the CPU builds, so verl is to use the CPU also where a GPU's driver is loaded.
export VERL_PLATFORM ?= cpu
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install train test test-slurm check lint format types doctor benchmark lock build clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED) ## make .venv with everything for a machine without a GPU

# torch comes first and with its dependencies: where no CPU build is at hand, pip takes the CUDA build, which runs on a
# CPU but only beside the libraries it depends on. The rest is a complete list, so nothing else may be pulled in.
$(INSTALLED): requirements/cpu.txt setup.py
	$(PYTHON) -c "import sys; sys.exit(None if sys.version_info[:2] == (3, 11) else 'Python 3.11 is needed; this is %d.%d. Run: make PYTHON=/path/to/python3.11 ...' % sys.version_info[:2])"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --no-deps -r requirements/cpu.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

train: $(INSTALLED) ## prepare the arithmetic task and train on it
	$(BIN)/reinforcepp prepare arithmetic
	$(BIN)/reinforcepp train +recipe=$(RECIPE) $(ARGS)

# Two workers: a run is mostly imports, one after the other, so that two at once hardly slow each other down.
test: $(INSTALLED) lint types ## everything that CI runs
	$(BIN)/python -m pytest -m "not e2e and not slurm" -n 2
	$(BIN)/python -m pytest -m e2e -n 2 --dist loadfile --durations=10

# Needs Slurm's daemons: apt-get install slurm-wlm munge.
test-slurm: $(INSTALLED) ## train in a Slurm of two nodes that is started on this machine
	$(BIN)/python -m pytest -m slurm --durations=0 -v

check: $(INSTALLED) ## check a recipe without starting anything
	$(BIN)/reinforcepp check +recipe=$(RECIPE) $(ARGS)

doctor: $(INSTALLED) ## say what this machine can run
	$(BIN)/reinforcepp doctor

lint: $(INSTALLED) ## style, without changing files
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(INSTALLED) ## style, changing files
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types: $(INSTALLED) ## static types
	$(BIN)/mypy

benchmark: $(INSTALLED) ## ours against verl: the estimators, the math verifier, step time of the CPU job
	$(BIN)/python benchmarks/advantages.py
	$(BIN)/python benchmarks/verifier.py
	$(BIN)/python benchmarks/step_time.py

lock: $(INSTALLED) ## refresh requirements/cpu.txt from cpu.in
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile requirements/cpu.in --override requirements/cpu-overrides.txt --no-emit-package torch \
		--python-version 3.11 --no-header --upgrade --output-file requirements/cpu.txt

build: $(INSTALLED) ## wheel and source archive in dist/
	$(BIN)/python -m build --no-isolation

clean: ## remove what building and testing left; runs/ and data/ stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
