# One verb per task; each sets up what it needs, once. `make` alone lists the verbs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# Three for two cores: a quarter of the time tests wait for servers, processes and disks.
JOBS ?= 3
TORCH := .venv-torch
TORCH_VERSION := 2.13.0
TORCH_PEERS := mosaicml-streaming==0.13.0 webdataset==1.0.2 pillow 'pytest>=9'
# Without byte code every Airflow process compiles everything at each start: three times slower.
unexport PYTHONDONTWRITEBYTECODE
export GX_ANALYTICS_ENABLED := false

.PHONY: help setup demo up test test-torch check bench soak expectations clean constraints

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## make the environment in .venv, pinned by constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make setup: $(PYTHON) is missing. Fix: apt-get install python3.11 python3.11-venv, or make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "setup: making $(VENV) with the pins of constraints.txt (about 1.5 GB; once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode -c constraints.txt --group dev -e .
	@touch $@

demo: $(STAMP) ## the main job end to end: make demo [CLIPS=DIR] [FLEET=FILE] [WORK=DIR] [MASKED=1]
	@$(BIN)/curation demo $(if $(CLIPS),--clips '$(CLIPS)') $(if $(FLEET),--fleet '$(FLEET)') $(if $(WORK),--work '$(WORK)') $(if $(MASKED),--masked)

up: $(STAMP) ## Airflow with the project's DAGs on loopback, until Ctrl-C: make up [WORK=DIR]
	@$(BIN)/curation up $(if $(WORK),--work '$(WORK)')

test: $(STAMP) ## the whole test suite but soak, for two cores: make test [ARGS=…] [JOBS=N]
	@$(BIN)/python -m pytest -m 'not soak' -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-torch: $(STAMP) $(TORCH)/.ready ## shards in PyTorch and MosaicML Streaming, in an environment of their own
	@$(TORCH)/bin/python -m pytest tests/torch -m torch --confcutdir=tests/torch -p no:cacheprovider -o filterwarnings=default $(ARGS)

$(TORCH)/.ready:
	@echo "test-torch: making $(TORCH) (2 to 7 GB, by the build of torch that is found; once)"
	@$(PYTHON) -m venv $(TORCH)
	@$(TORCH)/bin/python -m pip install --quiet --disable-pip-version-check torch==$(TORCH_VERSION)
	@$(TORCH)/bin/python -m pip install --quiet --disable-pip-version-check torch==$(TORCH_VERSION) $(TORCH_PEERS)
	@touch $@

check: $(STAMP) ## ruff, mypy strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@nice -n 10 $(BIN)/mypy  # beside tests, as .ci/run has it, the longest comes first
	@$(BIN)/lint-imports --no-cache

bench: $(STAMP) ## the benchmarks; prints ratios, writes benchmarks/latest.json
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet -c constraints.txt --group bench
	@$(BIN)/python -m benchmarks $(NAMES)

soak: $(STAMP) ## long kill and endurance runs
	@$(BIN)/python -m pytest -m soak $(ARGS)

expectations: $(STAMP) ## rewrite the Great Expectations suites and the JSON Schemas of packs and shard requests from the code
	@$(BIN)/python -m curation.adapters.validator_suites --write
	@$(BIN)/python -m curation.residency.pack_schema --write
	@$(BIN)/python -m curation.shards.request_schema --write

constraints: $(STAMP) ## resolve the pins anew
	@$(BIN)/uv pip compile --quiet --python-version 3.11 --no-header --no-emit-index-url --no-annotate --group dev --group bench --all-extras pyproject.toml .ci/tools.in -o constraints.txt

clean: ## remove the environment and caches
	@rm -rf $(VENV) $(TORCH) .mypy_cache .ruff_cache .pytest_cache .hypothesis
