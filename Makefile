# Two commands: `make demo` and `make test`. `make help` lists the others.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo real study ui check test test-slow test-times test-containers test-kills format mlflow-migrate mlflow-server \
        image up down logs demo-stack backup backup-check restore upgrade \
        tensorboard-classification tensorboard-malignant-classification bench-cutting bench-training bench-froc bench-scaling architecture clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin

# Where a target works: .luna (your data), .luna/demo (the synthetic phantom) or .luna/real (two LIDC-IDRI scans).
ROOT ?= .luna
export LUNA_DATA_DIR ?= $(abspath $(ROOT))/data
export LUNA_HOME ?= $(abspath $(ROOT))/home
export LUNA_CACHE ?= $(abspath $(ROOT))/cache
export DAGSTER_HOME ?= $(abspath $(ROOT))/dagster
# What cannot lie in S3 lies beside the cache when LUNA_HOME does.
LOCAL_HOME = $(if $(findstring ://,$(LUNA_HOME)),$(dir $(LUNA_CACHE))local,$(LUNA_HOME))
MLFLOW_URI = $(or $(MLFLOW_TRACKING_URI),sqlite:///$(LOCAL_HOME)/mlflow.db)

# No telemetry, and no warnings about beta or superseded functions of Dagster.
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR := false
export PYTHONWARNINGS ?= ignore
# matplotlib's font cache stays in the repository as well.
export MPLCONFIGDIR ?= $(CURDIR)/.luna/matplotlib
export PATH := $(BIN):$(PATH)
EXECUTE = dg launch --job

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 42

# The stamp is newer than the lock: a second run installs nothing, a changed lock installs again.
setup: $(VENV)/.installed ## the virtual environment from the lock
$(VENV)/.installed: requirements.lock pyproject.toml setup.py luna_pipeline/core/cutouts/_gather.c luna_pipeline/core/datasets/_augment.c
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked packages into $(VENV) (a few minutes, once) ..."
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

# DAGSTER_HOME holds a copy of dagster.yaml and everything that Dagster remembers.
define dagster_home
@mkdir -p "$(DAGSTER_HOME)" "$(LUNA_DATA_DIR)" "$(LOCAL_HOME)"
@cmp -s dagster.yaml "$(DAGSTER_HOME)/dagster.yaml" || cp dagster.yaml "$(DAGSTER_HOME)/dagster.yaml"
endef

demo: export LUNA_DATA_DIR = $(CURDIR)/.luna/demo/data
demo: export LUNA_HOME = $(CURDIR)/.luna/demo/home
demo: export DAGSTER_HOME = $(CURDIR)/.luna/demo/dagster
demo: setup ## everything on a synthetic phantom: raw CT to a scored test fold, in about four minutes
	$(dagster_home)
	@$(EXECUTE) demo

real: export LUNA_DATA_DIR = $(CURDIR)/.luna/real/data
real: export LUNA_HOME = $(CURDIR)/.luna/real/home
real: export DAGSTER_HOME = $(CURDIR)/.luna/real/dagster
real: setup ## the same jobs on two LIDC-IDRI scans of LUNA16 (LUNA_TEST_DATA names the folder that holds them)
	@test -n "$(LUNA_TEST_DATA)" || { echo "Real scans must be named, got no LUNA_TEST_DATA (a folder with lidc/, luna16/ and book/). Set it and try again." >&2; exit 2; }
	$(dagster_home)
	@python -m luna_pipeline_tests.real_data "$(LUNA_TEST_DATA)" "$(LUNA_DATA_DIR)"
	@luna import_book_weights "$(LUNA_TEST_DATA)"/book/cls_*.state
	@$(EXECUTE) ingest
	@$(EXECUTE) cut
	@$(EXECUTE) train_nodule_classifier -c config/real_training.yaml
	@$(EXECUTE) evaluate -c config/real_evaluation.yaml
	@python -m luna_pipeline.jobs.demo_summary

study: export LUNA_DATA_DIR = $(CURDIR)/.luna/demo/data
study: export LUNA_HOME = $(CURDIR)/.luna/demo/home
study: export DAGSTER_HOME = $(CURDIR)/.luna/demo/dagster
study: setup ## a search of eight trials on the demo's phantom (after `make demo`), in about four minutes
	$(dagster_home)
	@$(EXECUTE) tune -c config/tuning.yaml

ui: setup ## Dagster's webserver and daemon on this project: http://127.0.0.1:3000 (ROOT=.luna/demo for the demo)
	$(dagster_home)
	@exec dagster dev -w workspace.yaml -h 127.0.0.1 -p 3000

check: setup ## ruff, mypy, import-linter, definitions validate
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports
	@DAGSTER_HOME= dagster definitions validate -m luna_pipeline.definitions

# Two processes of one thread each. WORKERS=0 runs the tests in pytest's own process, as a debugger needs.
WORKERS ?= 2
REPORTS ?= .luna/tests

test: setup ## the tests that are not slow, on two cores (WORKERS=2), and the coverage of core
	@coverage erase
	@pytest -m "not slow and not containers" -n $(WORKERS) --junitxml=$(REPORTS)/test.xml --cov --cov-report=
	@coverage report --include='luna_pipeline/core/*' --fail-under=95

test-slow: setup ## tests with daemons, servers, browsers and killed processes (PART=... for some of them)
	@pytest -m slow -n $(WORKERS) --junitxml=$(REPORTS)/$(or $(REPORT),slow).xml $(PART)

test-times: setup ## the slowest files and tests of the last `make test` and `make test-slow`
	@python -m luna_pipeline_tests.durations $(wildcard $(REPORTS)/*.xml)

test-kills: setup ## twenty random kills in the stack, run as processes of this machine (~20 minutes)
	@LUNA_TEST_KILLS=$(or $(KILLS),20) pytest -m slow -s -o timeout=7200 luna_pipeline_tests/stack/test_kills.py

test-containers: setup ## image and compose file in containers: services killed and recovered (~20 minutes)
	@bash luna_pipeline_tests/containers/run.sh

# The stack in containers: docs/operations.md. These need a container engine with Compose, and no virtual environment.
ENV_FILE ?= .env
DOCKER ?= docker
COMPOSE ?= $(if $(shell $(DOCKER) compose version 2>/dev/null),$(DOCKER) compose,docker-compose)
STACK = $(COMPOSE) --env-file $(ENV_FILE) -f docker-compose.yml $(if $(GPU),-f docker-compose.cuda.yml) \
  $(if $(ALERTS),-f docker-compose.alerts.yml)
# Runs on this machine and reaches databases and store through their containers.
BACKUPS ?= backups
KEEP = python3 deploy/stack/backup.py --compose "$(STACK)" --backups "$(BACKUPS)"

image: ## the image of every part of the stack (TORCH_INDEX, ACCELERATOR and LUNA_TAG: .env.example)
	@sh deploy/stack/make_env.sh $(ENV_FILE)
	@set -a; . $(abspath $(ENV_FILE)); set +a; \
	  DOCKER_BUILDKIT=1 $(DOCKER) build --tag "luna-pipeline:$${LUNA_TAG:-local}" \
	    --build-arg TORCH_INDEX --build-arg ACCELERATOR .

up: image ## the whole system in containers: PostgreSQL, S3 store, MLflow, TensorBoard, Dagster at http://127.0.0.1:3000
	@$(STACK) up --detach --wait --no-build
	@$(STACK) ps

down: ## stop the stack; its volumes stay
	@$(STACK) --profile ray down

logs: ## what the stack's services print
	@$(STACK) logs --follow --tail=100

demo-stack: ## the demo inside the stack, by its queue
	@$(STACK) exec -T code python /opt/luna/stack/launch.py demo

backup: ## copy both databases, the store and what cannot be made again to backups/, also while the stack works
	@$(KEEP) backup

backup-check: ## is every byte of BACKUP=FOLDER there?
	@$(KEEP) check "$(BACKUP)"

restore: ## BACKUP=FOLDER into an empty stack that is down (REPLACE=1: what is there may be lost)
	@$(KEEP) restore "$(BACKUP)" $(if $(REPLACE),--replace)

upgrade: ## after a new version and `make image`: stop, back up, migrate both databases, start
	@$(KEEP) upgrade
	@$(STACK) up --detach --wait --no-build

bench-cutting: setup ## cutting and tables against the tutorial, the book and the disk; wants an idle machine (~10 minutes)
	@python -m benchmarks.bench_cutting --out benchmarks/results

bench-training: setup ## loading, training and evaluation against the tutorial's way; wants an idle machine (~10 minutes)
	@python -m benchmarks.bench_training --out benchmarks/results

bench-froc: setup ## LUNA16's evaluation at its full size, on one core, against the official way (~1 minute)
	@python -m benchmarks.bench_froc

bench-scaling: setup ## what Dagster runs, Ray's tasks and trials and torchrun cost without work; wants an idle machine (~2 minutes)
	@python -m benchmarks.bench_scaling

architecture: setup ## draw docs/architecture.svg from the imports of the code
	@python docs/draw_architecture.py

format: setup ## format the code and sort its imports
	@ruff format .
	@ruff check --fix .

mlflow-migrate: setup ## bring MLflow's database to the installed version
	@mkdir -p "$(LOCAL_HOME)"
	@mlflow db upgrade "$(MLFLOW_URI)"

mlflow-server: setup ## MLflow at http://127.0.0.1:8080 (ROOT=.luna/demo for the demo)
	@mkdir -p "$(LOCAL_HOME)"
	@exec mlflow server --host 127.0.0.1 --port 8080 --backend-store-uri "$(MLFLOW_URI)" \
	  --artifacts-destination "$(LOCAL_HOME)/mlartifacts" --workers 1

tensorboard-classification: setup ## TensorBoard of the nodule classifiers at http://127.0.0.1:6006
	@exec tensorboard --host 127.0.0.1 --logdir "$(LOCAL_HOME)/tensorboard/nodule_classifier"

tensorboard-malignant-classification: setup ## TensorBoard of the malignancy classifiers at http://127.0.0.1:6006
	@exec tensorboard --host 127.0.0.1 --logdir "$(LOCAL_HOME)/tensorboard/malignancy_classifier"

clean: ## remove what the demo and the real scans produced; your own data under .luna stay
	@rm -rf .luna/demo .luna/real
