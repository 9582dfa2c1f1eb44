# The commands people use. `make demo` and `make test` set everything up by themselves.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PYTEST := $(BIN)/python -m pytest
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11
LOCK := $(COMPILE) -c requirements/dev.txt

# One BLAS thread per process unless a command decides otherwise: the tests start many small processes.
export PYTHONUNBUFFERED := 1
# Containers often set this, and then each process compiles torch, Ray and transformers anew: seconds for each start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo contrast experiment docs test test-lowest test-all lint format unit ray s3 slow smoke cluster cluster-down test-cluster bench-plan bench-operator bench-training bench-demo bench-accumulation bench-evaluation bench-data bench-verdicts bench-scale bench-serving bench-storage bench-sweep bench-installation bench-export chaos lock generate clean

help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "raytrain needs Python 3.11 or newer; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

setup: $(READY) ## create .venv with the locked dependencies

demo: $(READY) ## the quickstart: generate data and a tiny model, train, report (eight minutes on two cores)
	$(BIN)/python -m examples.quickstart.world
	$(BIN)/raytrain run examples/quickstart/job.yaml --storage demo

contrast: $(READY) ## compare one task with a mixture: what each forgets, in one picture
	$(BIN)/python -m examples.quickstart.world
	$(BIN)/python -m examples.forgetting.compare

experiment: $(READY) ## what guards against forgetting: a sweep of 27 runs (goes on where it was)
	$(BIN)/python -m examples.quickstart.world
	$(BIN)/python -m examples.forgetting.experiment
	if [ -n "$${RAYTRAIN_REAL_DATA:-}" ]; then $(BIN)/python -m examples.forgetting.experiment --world real; fi

docs: $(READY) ## the documentation site, in build/site; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean --quiet

lint: $(READY) ## ruff, mypy, import rules, declared dependencies, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/codespell

format: $(READY) ## let ruff fix and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: $(READY) ## fast tests
	$(PYTEST) -m "not ray and not s3 and not cluster and not gpu and not slow"

ray: $(READY) ## tests that start Ray on this machine
	$(PYTEST) -m "ray and not slow and not cluster and not gpu"

s3: $(READY) ## tests against a real S3 server
	$(PYTEST) -m "s3 and not ray and not slow and not cluster and not gpu"

slow: $(READY) ## tests that take minutes, faults among them
	$(PYTEST) -m "slow and not cluster and not gpu" --timeout 1800

smoke: $(READY) ## from Helm to the report in a real cluster (root, Linux, Go; the first time ten minutes longer)
	$(PYTEST) tests/cluster/test_smoke.py --timeout 3000 -rs

test: lint docs unit ray s3 smoke ## everything that must pass before a change lands

test-lowest: $(READY) ## fast tests and one run in Ray with the lowest versions that pyproject.toml allows
	mkdir -p build
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --no-header --python-version 3.11 --extra dev pyproject.toml -o build/lowest.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/lowest
	$(BIN)/uv pip sync --quiet --python build/lowest/bin/python build/lowest.txt
	$(BIN)/uv pip install --quiet --python build/lowest/bin/python --no-deps --no-build-isolation --editable .
	build/lowest/bin/python -m pytest -m "not ray and not s3 and not cluster and not gpu and not slow"
	build/lowest/bin/python -m pytest tests/raytrain/pipeline/test_run.py

test-all: test slow test-cluster ## everything that can run on this machine

cluster: $(READY) ## a real Kubernetes with KubeRay on this machine (root, Linux, Go); NODES=2 GPUS=1 INSTALL=1
	$(BIN)/python -m tests.cluster.harness up --nodes $(or $(NODES),1) --gpus $(or $(GPUS),0) $(if $(INSTALL),--install) --image run --image operator

cluster-down: $(READY) ## remove that cluster
	$(BIN)/python -m tests.cluster.harness down

test-cluster: $(READY) ## tests in a real cluster (started if there is none)
	RAYTRAIN_TEST_CLUSTER=required $(PYTEST) -m cluster tests/raytrain/operator tests/cluster --timeout 3000

bench-plan: $(READY) ## sampling order and packing at the scale of FLAN: seconds, memory, fill
	$(BIN)/python -m benchmarks.plan --out benchmarks/results/plan.json

bench-storage: $(READY) ## our stores and other clients of S3, GCS and Azure (needs obstore, gcsfs, adlfs)
	$(BIN)/python -m benchmarks.storage --out benchmarks/results/storage.json

bench-operator: $(READY) ## the operator with 1,000 jobs on a real API server (after make cluster)
	$(BIN)/python -m benchmarks.operator --out benchmarks/results/operator.json

bench-training: $(READY) ## training speed compared with Seq2SeqTrainer: about 25 minutes, resumable
	$(BIN)/python -m benchmarks.training --out benchmarks/results/training.json

bench-demo: $(READY) ## the seconds of make demo, part by part, from nothing
	$(BIN)/python -m benchmarks.demo --out benchmarks/results/demo.json

bench-accumulation: $(READY) ## gradient accumulation: is a divided step the same step, here and in Seq2SeqTrainer?
	$(BIN)/python -m benchmarks.accumulation --out benchmarks/results/accumulation.json

bench-evaluation: $(READY) ## generation and scoring compared with transformers, rouge_score and one actor
	$(BIN)/python -m benchmarks.evaluation --out benchmarks/results/evaluation.json

bench-data: $(READY) ## preparation and reading compared with their parts, and with Hugging Face datasets
	$(BIN)/python -m benchmarks.data --out benchmarks/results/data.json

bench-verdicts: $(READY) ## level of verdicts and coverage of intervals, by simulation (resumable)
	$(BIN)/python -m benchmarks.verdicts --work build/verdicts.jsonl --out benchmarks/results/verdicts.json

bench-scale: $(READY) ## plan, messages, commit and restart of 1,024 workers over 15 M examples, simulated
	$(BIN)/python -m benchmarks.scale --out benchmarks/results/scale.json

bench-installation: $(READY) ## MB and seconds of pip install, base and extras, and of --help (downloads several GB)
	$(BIN)/python -m benchmarks.installation --out benchmarks/results/installation.json

bench-export: $(READY) ## int8 and bfloat16 by CTranslate2 compared with our generation (needs the run of make demo)
	$(BIN)/python -m benchmarks.export quickstart --storage demo --out benchmarks/results/export.json

bench-serving: $(READY) ## serving over HTTP compared with Ray Serve + transformers and + CTranslate2 (resumable)
	$(BIN)/python -m benchmarks.serving --out benchmarks/results/serving.json

bench-sweep: $(READY) ## what a sweep adds to each of its runs (ten minutes)
	$(BIN)/python -m benchmarks.sweep --out benchmarks/results/sweep.json

chaos: $(READY) ## random kills of workers, driver, actors and store, compared with an undisturbed run (15 minutes)
	$(BIN)/python -m benchmarks.chaos --out benchmarks/results/chaos.json

lock: $(READY) ## resolve the dependencies again
	$(COMPILE) --extra dev --extra docs pyproject.toml -o requirements/dev.txt
	$(LOCK) --extra train --extra serve --extra plots --extra pii --extra operator --extra gcs --extra azure pyproject.toml -o requirements/run.txt
	$(LOCK) requirements/operator.in -o requirements/operator.txt
	$(COMPILE) requirements/image.in -o requirements/image.txt

generate: $(READY) ## write the schemas and the reference pages again
	$(BIN)/python -m raytrain.config.schema --write
	$(BIN)/python -m raytrain.report.schema
	$(BIN)/python -m raytrain.operator.install.manifests
	$(BIN)/python -m benchmarks.page

clean: ## remove what make created, .venv included
	rm -rf .venv demo raytrain-storage examples/quickstart/world examples/forgetting/out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
