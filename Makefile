# Two commands: `make demo` and `make test`. `make help` lists the others.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-diagnosis real study ui check test test-slow test-times test-containers test-gpu test-kills test-serving-kills test-numerics fuzz format mlflow-migrate mlflow-server \
        image image-luna25 up down logs demo-stack backup backup-check restore upgrade \
        tensorboard-classification tensorboard-malignant-classification bench-cutting bench-training bench-froc bench-diagnosis bench-download bench-same-scans bench-scaling bench-serving bench-gpu docs screenshots notebooks architecture clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin

# Folder of a target: .luna (your data), .luna/demo (the synthetic phantom) or .luna/real (two LIDC-IDRI scans).
ROOT ?= .luna
export LUNA_DATA_DIR ?= $(abspath $(ROOT))/data
export LUNA_HOME ?= $(abspath $(ROOT))/home
export LUNA_CACHE ?= $(abspath $(ROOT))/cache
export DAGSTER_HOME ?= $(abspath $(ROOT))/dagster
# With LUNA_HOME in S3, files that S3 cannot hold are next to the cache.
LOCAL_HOME = $(if $(findstring ://,$(LUNA_HOME)),$(dir $(LUNA_CACHE))local,$(LUNA_HOME))
MLFLOW_URI = $(or $(MLFLOW_TRACKING_URI),sqlite:///$(LOCAL_HOME)/mlflow.db)

# No telemetry, and no warnings about beta or superseded functions of Dagster.
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR := false
export PYTHONWARNINGS ?= ignore
# Bytecode is kept, whatever the environment says: tests and jobs start hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=
# matplotlib's font cache is in the repository, too.
export MPLCONFIGDIR ?= $(CURDIR)/.luna/matplotlib
export PATH := $(BIN):$(PATH)
# Shows the stages of the jobs, and keeps their log in a file; `dg launch --job demo` prints the log itself.
SHOW = python -m luna_pipeline.terminal
SHOWN = $(if $(FORCE),--force) $(if $(SEED),--seed $(SEED)) $(if $(CONFIG),--config $(CONFIG))

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 42

# The stamp is newer than the lock: a second run installs nothing, a changed lock is installed again.
# compileall compiles bytecode on all cores, but none of the tests of others, and skips what is no Python of this version.
setup: $(VENV)/.installed ## create the virtual environment from the lock
$(VENV)/.installed: requirements.lock deploy/install_locked.py pyproject.toml setup.py luna_pipeline/core/cutouts/_gather.c luna_pipeline/core/datasets/_augment.c
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked packages into $(VENV) (a few minutes, once) ..."
	@$(BIN)/python deploy/install_locked.py
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -qq -j 0 -x '/(tests?|testing)/' $(VENV)/lib || true
	@touch $@

# DAGSTER_HOME holds a copy of dagster.yaml and Dagster's run history.
define dagster_home
@mkdir -p "$(DAGSTER_HOME)" "$(LUNA_DATA_DIR)" "$(LOCAL_HOME)"
@cmp -s dagster.yaml "$(DAGSTER_HOME)/dagster.yaml" || cp dagster.yaml "$(DAGSTER_HOME)/dagster.yaml"
endef

demo: export LUNA_DATA_DIR = $(CURDIR)/.luna/demo/data
demo: export LUNA_HOME = $(CURDIR)/.luna/demo/home
demo: export DAGSTER_HOME = $(CURDIR)/.luna/demo/dagster
demo: setup ## run everything on a synthetic phantom, from raw CT to a scored test fold (four minutes; SEED=0 FORCE=1)
	$(dagster_home)
	@$(SHOW) demo $(SHOWN)

demo-diagnosis: export LUNA_DATA_DIR = $(CURDIR)/.luna/demo/data
demo-diagnosis: export LUNA_HOME = $(CURDIR)/.luna/demo/home
demo-diagnosis: export DAGSTER_HOME = $(CURDIR)/.luna/demo/dagster
demo-diagnosis: setup ## train a segmenter on the phantom, score the whole detector, diagnose a scan, after `make demo` (SEED=0; three minutes)
	$(dagster_home)
	@$(SHOW) demo-diagnosis $(SHOWN)

real: export LUNA_DATA_DIR = $(CURDIR)/.luna/real/data
real: export LUNA_HOME = $(CURDIR)/.luna/real/home
real: export DAGSTER_HOME = $(CURDIR)/.luna/real/dagster
real: setup ## run the same jobs on two LIDC-IDRI scans of LUNA16 (LUNA_TEST_DATA names their folder)
	@test -n "$(LUNA_TEST_DATA)" || { echo "Real scans must be named, got no LUNA_TEST_DATA (a folder with lidc/, luna16/ and book/). Set it and try again." >&2; exit 2; }
	$(dagster_home)
	@$(SHOW) real --real "$(LUNA_TEST_DATA)" $(SHOWN)

study: export LUNA_DATA_DIR = $(CURDIR)/.luna/demo/data
study: export LUNA_HOME = $(CURDIR)/.luna/demo/home
study: export DAGSTER_HOME = $(CURDIR)/.luna/demo/dagster
study: setup ## run a search of eight trials on the demo's phantom, after `make demo` (about four minutes)
	$(dagster_home)
	@$(SHOW) study $(SHOWN)

ui: setup ## start Dagster's webserver and daemon at http://127.0.0.1:3000 (ROOT=.luna/demo for the demo)
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
# Browser tests keep pictures of the pages here.
test test-slow: export LUNA_TEST_PICTURES ?= $(abspath $(REPORTS))/screenshots

# MARKS=... takes others, PART=... some of them.
test: setup ## the tests that are not slow, on two cores (WORKERS=2), and the coverage of core
	@coverage erase
	@mkdir -p "$(LUNA_TEST_PICTURES)"
	@pytest -m "$(or $(MARKS),not slow and not containers)" -n $(WORKERS) --junitxml=$(REPORTS)/test.xml $(PART) \
	  --cov --cov-report=
	@coverage report --include='luna_pipeline/core/*' --fail-under=95

test-slow: setup ## tests with daemons, servers, browsers and killed processes (PART=... for some of them)
	@mkdir -p "$(LUNA_TEST_PICTURES)"
	@pytest -m "$(or $(MARKS),slow)" -n $(WORKERS) --junitxml=$(REPORTS)/$(or $(REPORT),slow).xml $(PART)

test-times: setup ## the slowest files and tests of the last `make test` and `make test-slow`
	@python -m luna_pipeline_tests.durations $(wildcard $(REPORTS)/*.xml)

test-gpu: setup ## training, scoring and augmentation on a CUDA device; prints one line where there is none
	@if python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then pytest -m gpu; \
	 else echo "test-gpu: there is no CUDA device, nothing was tested."; fi

# Tests of matrix products, sums and seeds, under other code paths of OpenBLAS, torch, oneDNN, MKL and NumPy and other
# numbers of threads than those of this machine.
NUMERICS := $(addprefix luna_pipeline_tests/core/,baselines networks models/test_scoring.py datasets/test_augmenting.py \
  ct/test_geometry.py cutouts/test_resampling.py cutouts/test_on_the_fly.py metrics training/test_trainer.py) \
  luna_pipeline_tests/launchers/evaluation/test_feature_baselines.py
test-numerics: setup ## tests of numerical results on other instruction sets and numbers of threads (5 minutes)
	@run() { echo "test-numerics: $$*"; env "$$@" pytest -q -m "not slow and not gpu" -n $(WORKERS) $(NUMERICS); }; \
	run OPENBLAS_CORETYPE=Haswell ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=1 && \
	run OPENBLAS_CORETYPE=Katmai ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE OMP_NUM_THREADS=2 && \
	if grep -qw avx512dq /proc/cpuinfo; then run OPENBLAS_CORETYPE=SkylakeX OMP_NUM_THREADS=2; \
	else echo "test-numerics: SkylakeX left out, this processor has no AVX-512."; fi

fuzz: setup ## malformed inputs of all kinds: make fuzz SEED=1 N=2000, or one of them: ONLY=metaimage-17
	@LUNA_FUZZ_SEED=$(or $(SEED),1) LUNA_FUZZ_NUM=$(or $(N),2000) LUNA_FUZZ_ONLY=$(ONLY) \
	  pytest -q -n $(WORKERS) -o timeout=3600 luna_pipeline_tests/fuzz

test-kills: setup ## twenty random kills in the stack, run as processes of this machine (~20 minutes)
	@LUNA_TEST_KILLS=$(or $(KILLS),20) pytest -m slow -s -o timeout=7200 luna_pipeline_tests/stack/test_kills.py

test-serving-kills: setup ## thirty random kills of the service's processes and database while CTs arrive (~10 minutes)
	@LUNA_TEST_SERVING_KILLS=$(or $(KILLS),30) pytest -m slow -s -o timeout=7200 luna_pipeline_tests/serving/test_kills.py

test-containers: setup ## image and compose file in containers: services killed and recovered (~20 minutes)
	@bash luna_pipeline_tests/containers/run.sh

# The stack in containers: docs/how_to/operate.md. These targets need a container engine with Compose, and no .venv.
ENV_FILE ?= .env
DOCKER ?= docker
COMPOSE ?= $(if $(shell $(DOCKER) compose version 2>/dev/null),$(DOCKER) compose,docker-compose)
STACK = $(COMPOSE) --env-file $(ENV_FILE) -f docker-compose.yml $(if $(GPU),-f docker-compose.cuda.yml) \
  $(if $(ALERTS),-f docker-compose.alerts.yml)
# Runs on this machine; databases and store are reached through their containers.
BACKUPS ?= backups
KEEP = python3 deploy/stack/backup.py --compose "$(STACK)" --backups "$(BACKUPS)"

image: ## build the image of the stack (TORCH_INDEX, ACCELERATOR and LUNA_TAG: .env.example)
	@sh deploy/stack/make_env.sh $(ENV_FILE)
	@set -a; . $(abspath $(ENV_FILE)); set +a; \
	  DOCKER_BUILDKIT=1 $(DOCKER) build --tag "luna-pipeline:$${LUNA_TAG:-local}" \
	    --build-arg TORCH_INDEX --build-arg ACCELERATOR .

# A container of the LUNA25 challenge. MODEL is the folder of a checkpoint of a malignancy classifier, with its best.pt.
image-luna25: image ## build an algorithm of the LUNA25 challenge with the weights in MODEL=FOLDER (docs/how_to/sources/luna25.md)
	@test -f "$(MODEL)/best.pt" || { echo "The model must be the folder of a checkpoint with best.pt, got '$(MODEL)' (MODEL). Name <LUNA_HOME>/checkpoints/malignancy_classifier/<version>." >&2; exit 2; }
	@set -a; . $(abspath $(ENV_FILE)); set +a; \
	  DOCKER_BUILDKIT=1 $(DOCKER) build --tag "luna-pipeline-luna25:$${LUNA_TAG:-local}" \
	    --build-arg=LUNA_IMAGE="luna-pipeline:$${LUNA_TAG:-local}" --file deploy/luna25/Dockerfile "$(MODEL)"

up: image ## start the system in containers: Dagster at http://127.0.0.1:3000, the service at :8000, MLflow, TensorBoard
	@$(STACK) run --rm --no-deps -T serve bash /opt/luna/stack/first_token.sh
	@$(KEEP) databases
	@$(STACK) up --detach --wait --no-build
	@$(STACK) ps

down: ## stop the stack; its volumes are kept
	@$(STACK) --profile ray --profile dicom down

logs: ## show the output of the stack's services
	@$(STACK) logs --follow --tail=100

demo-stack: ## run the demo inside the stack, through its queue
	@$(STACK) exec -T code python /opt/luna/stack/launch.py demo

backup: ## copy databases, store and local files to backups/, also while the stack runs
	@$(KEEP) backup

backup-check: ## verify that BACKUP=FOLDER is complete
	@$(KEEP) check "$(BACKUP)"

restore: ## restore BACKUP=FOLDER into an empty, stopped stack (REPLACE=1 overwrites existing data)
	@$(KEEP) restore "$(BACKUP)" $(if $(REPLACE),--replace)

upgrade: ## stop, back up, migrate both databases and start; after a new version and `make image`
	@$(KEEP) upgrade
	@$(STACK) up --detach --wait --no-build

bench-cutting: setup ## compare cutting and tables with the original project, the book and the disk (idle machine, ~10 minutes)
	@python -m benchmarks.bench_cutting --out benchmarks/results

bench-training: setup ## compare loading, training and evaluation with the original project (idle machine, ~10 minutes)
	@python -m benchmarks.bench_training --out benchmarks/results

bench-froc: setup ## compare LUNA16's evaluation at its full size with the official procedure, on one core (~1 minute)
	@python -m benchmarks.bench_froc

bench-diagnosis: setup ## compare a diagnosis with the book's procedure, and its memory (idle machine, LUNA_TEST_DATA, ~5 minutes)
	@python -m benchmarks.bench_diagnosis --out benchmarks/results

bench-download: setup ## compare the download of an archive with curl, from a local server (idle machine, ~2 minutes)
	@python -m benchmarks.bench_download --out benchmarks/results

bench-serving: setup ## uploads and cutouts at once, switched champions, memory (MINUTES=30, scratch for all CTs)
	@python -m benchmarks.bench_serving --out benchmarks/results --minutes $(or $(MINUTES),1)

bench-same-scans: setup ## recall and false matches of the search for the same scan (LUNA_TEST_DATA, 5 GB of scratch, ~15 minutes)
	@python -m benchmarks.bench_same_scans

bench-gpu: setup ## samples a second in loading, training and evaluation on a CUDA device, and how long it waits
	@python -m benchmarks.bench_gpu

bench-scaling: setup ## measure the overhead of Dagster runs, Ray and torchrun (idle machine, ~2 minutes)
	@python -m benchmarks.bench_scaling

docs: setup ## build the documentation as a site in .luna/documentation/site; a warning or a broken link is an error
	@python -m docs_tools.build

notebooks: setup ## run the notebooks on a synthetic data set, into .luna/notebooks (CHAPTERS="1 3"; about two minutes)
	@python notebooks/build.py --out .luna/notebooks $(CHAPTERS)

screenshots: setup ## take the screenshots in docs/pictures again, on a demo of its own (Chromium; the time of two demos)
	@python -m docs_tools.screenshots

architecture: setup ## draw docs/pictures/architecture.svg from the imports of the code
	@python -m docs_tools.draw_architecture

format: setup ## format the code and sort its imports
	@ruff format .
	@ruff check --fix .

mlflow-migrate: setup ## migrate MLflow's database to the installed version
	@mkdir -p "$(LOCAL_HOME)"
	@mlflow db upgrade "$(MLFLOW_URI)"

mlflow-server: setup ## start MLflow at http://127.0.0.1:8080 (ROOT=.luna/demo for the demo)
	@mkdir -p "$(LOCAL_HOME)"
	@exec mlflow server --host 127.0.0.1 --port 8080 --backend-store-uri "$(MLFLOW_URI)" \
	  --artifacts-destination "$(LOCAL_HOME)/mlartifacts" --workers 1

tensorboard-classification: setup ## start TensorBoard for the nodule classifiers at http://127.0.0.1:6006
	@exec tensorboard --host 127.0.0.1 --logdir "$(LOCAL_HOME)/tensorboard/nodule_classifier"

tensorboard-malignant-classification: setup ## start TensorBoard for the malignancy classifiers at http://127.0.0.1:6006
	@exec tensorboard --host 127.0.0.1 --logdir "$(LOCAL_HOME)/tensorboard/malignancy_classifier"

clean: ## remove the output of demo and real scans; your data under .luna are kept
	@rm -rf .luna/demo .luna/real
