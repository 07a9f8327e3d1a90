# make demo    three simulated subjects, registered from start to end (OUTPUT=demo)
# make test    the whole test suite
# make lint    style of the code
# make clean   remove the environment, the demo and what builds leave
#
# PYTHON chooses the interpreter and TORCH what pip installs for torch before all else, for example
#   make demo PYTHON=python3.12 TORCH="torch --index-url <wheels you prefer>"

PYTHON ?= $(shell command -v python3.11 || command -v python3)
OUTPUT ?= demo
# A release already installed is kept by what is installed after it. Where pip would bring CUDA to a
# machine without a GPU, name a build without it in TORCH.
TORCH ?= $(if $(shell command -v nvidia-smi),"torch>=2.4",torch==2.13.0)

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from-setup.py

.PHONY: demo test lint clean env

demo: $(STAMP)
	$(BIN)/vxmprep-demo "$(OUTPUT)"

test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

env: $(STAMP)

$(STAMP): setup.py
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	rm -rf "$(OUTPUT)"
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
