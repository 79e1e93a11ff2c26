# make help lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
.PHONY: help setup extras demo test coverage test-slow test-gpu test-slurm lint format docs lock audit bench bench-guard cifar10 published soak speedrun clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# Installs a lock file; with uv, where that is there, in seconds.
define install
	@if command -v uv >/dev/null; then \
	  set -ex; uv venv --quiet --allow-existing --python $(PYTHON) $(VENV); \
	  uv pip install --quiet --compile-bytecode --python $(BIN)/python -r $(1); \
	  uv pip install --quiet --python $(BIN)/python --no-deps --editable .; \
	else \
	  set -ex; $(PYTHON) -m venv $(VENV); \
	  $(BIN)/pip install --quiet --disable-pip-version-check -r $(1); \
	  $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .; \
	fi
	@touch $@
endef

# The stamps are newer than what was installed from, or set-up runs again.
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; PYTHON=python3.12 make ... chooses one" >&2; exit 1; }
	$(call install,requirements.lock)

$(VENV)/.extras: requirements-extras.lock $(VENV)/.installed
	$(call install,requirements-extras.lock)

setup: $(VENV)/.installed ## make .venv with cnnzoo and the pinned packages that the demo and the tests need
extras: $(VENV)/.extras ## add every extra: launchers, loggers, export, docs ...; tests of what is missing are skipped

demo: setup ## train the four networks on scikit-learn's digits and print their comparison (CPU, minutes)
	$(BIN)/python -m cnnzoo.run -m experiment=demo model=googlenet,resnet,preact_resnet,densenet
	$(BIN)/python -m cnnzoo.compare outputs/digits

test: setup ## the test suite: make test [ARGS="tests/results -x"]
	$(BIN)/python -m pytest $(ARGS)

coverage: setup ## the test suite, and which lines it runs
	$(BIN)/python -m pytest --cov --cov-report=term $(ARGS)

test-slow: setup ## tests that need minutes, the real data and the published weights (CNNZOO_DATA, CNNZOO_WEIGHTS)
	$(BIN)/python -m pytest -m slow

test-gpu: setup ## tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

test-slurm: setup ## tests that submit jobs to a SLURM cluster
	$(BIN)/python -m pytest -m slurm

lint: extras ## ruff, format check and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: extras ## the documentation as a site, docs/_build/html; runs its notebooks
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html

COMPILE := uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --custom-compile-command 'make lock'
lock: ## resolve both lock files anew (needs uv)
	$(COMPILE) --upgrade --all-extras pyproject.toml --output-file requirements-extras.lock
	$(COMPILE) --extra dev --constraint requirements-extras.lock pyproject.toml --output-file requirements.lock

AUDIT := $(VENV)/audit/bin
audit: ## look the pinned packages up in PyPI's list of known vulnerabilities
	@$(PYTHON) -c 'import urllib.request as r; r.urlopen("https://pypi.org/pypi/pip/json", timeout=20)' 2>/dev/null || \
	  { echo "make audit looks packages up at https://pypi.org/pypi/, which cannot be reached from here" >&2; exit 1; }
	@test -x $(AUDIT)/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && $(AUDIT)/pip install --quiet pip-audit==2.9.0; }
	$(AUDIT)/pip-audit --strict --disable-pip --no-deps --requirement requirements-extras.lock

bench: setup ## throughput compared with the alternatives (on a quiet machine)
	$(BIN)/python -m cnnzoo.bench what=all $(ARGS)

bench-guard: setup ## training throughput against another commit: make bench-guard BASE=main~5 [ARGS="model=densenet steps=10"]
	$(BIN)/python benchmarks/compare_commits.py $(BASE) $(ARGS)

cifar10: setup ## train a network to 94 % on CIFAR-10 (two CPU cores: minutes), and test it
	$(BIN)/python -m cnnzoo.run experiment=speedrun/cifar10_94 $(ARGS)

published: setup ## the published table, three seeds a row, with its tests and figures: make published [ARGS="hydra/launcher=joblib"]
	CNNZOO_OUTPUTS=outputs/published $(BIN)/python -m cnnzoo.run -m seed=1,2,3 'experiment=glob(uvadlc/*)' $(ARGS)
	$(BIN)/python -m cnnzoo.compare outputs/published --tests --out outputs/published/table.md
	$(BIN)/python -m cnnzoo.compare outputs/published --out outputs/published/table.json
	$(BIN)/python -m cnnzoo.figures runs outputs/published --out outputs/published/figures
	@cat outputs/published/table.md

soak: setup ## kill runs and a sweep at random moments and compare them with undisturbed ones: make soak [ARGS="--kills 20"]
	$(BIN)/python benchmarks/soak.py $(ARGS)

speedrun: setup ## seconds to 94 % on CIFAR-10: make speedrun ARGS="--runs 20 trainer.compile=true" (a GPU)
	$(BIN)/python benchmarks/speedrun.py $(ARGS)

clean: ## remove what the other targets made, but no results
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache
