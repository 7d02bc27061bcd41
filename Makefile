# Two commands: `make demo` and `make test`. Everything else is listed by `make help`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo real ui check test test-slow format mlflow-migrate mlflow-server \
        tensorboard-classification tensorboard-malignant-classification clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Where a target works: .luna (your data), .luna/demo (the phantom) or .luna/real (the LIDC-IDRI scans).
ROOT ?= .luna
HERE := $(CURDIR)

# Dagster, MLflow and torch read these; nothing is phoned home.
export DAGSTER_HOME ?= $(abspath $(ROOT))/dagster
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR := false
# Big pages for torch's buffers: a training step on a CPU takes a third less time (docs/performance.md).
export THP_MEM_ALLOC_ENABLE ?= 1
export PATH := $(abspath $(BIN)):$(PATH)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 42

# The stamp holds the lock's digest: a second run installs nothing, a changed lock installs again.
setup: $(VENV)/.installed ## the virtual environment from the lock
$(VENV)/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked packages into $(VENV) (a few minutes, once) ..."
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@
