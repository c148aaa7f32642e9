# `make` without a target lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EVERYTHING := --editable '.[train,serve,watch,pipeline,cluster,dev]'

# Real photos come from a mirror of the data sets beside this folder, if it exists; otherwise they are downloaded.
ifneq ($(wildcard ../shared/data),)
export IMMR_DATA_MIRROR ?= $(abspath ../shared/data)
endif

.PHONY: audit gpu images push image-spark rules help demo test test-slow coverage lint types imports unit pipelines setup browser spark prometheus redis postgres registry bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(READY) ## create .venv with all pinned packages

# Shows pip's progress as one line, and its errors.
define PIP_INSTALL
$(BIN)/pip install --progress-bar off --constraint constraints.txt $(1) 2>&1 | awk -v live="$$(test -t 1 && echo 1)" ' \
  /^ERROR|^error|^  *error:/ { print } \
  /^(Collecting|Requirement already)/ { n++; if (live) printf "\r  %d packages found ", n; fflush() } \
  /^Installing collected/ { printf "%s  %d packages found, unpacking\n", live ? "\r" : "", n; fflush() }'
endef

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "IMMR needs Python 3.11: install it, or name its binary with PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || { echo "· creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "· installing torch (CPU)"
	@$(call PIP_INSTALL,torch==2.13.0)
	@echo "· installing IMMR and its libraries (about two minutes)"
	@$(call PIP_INSTALL,$(EVERYTHING))
	@touch $(READY)

demo: $(READY) ## run the whole loop on real photos, then serve the search (ARGS=--once stops after the A/B test)
	@$(BIN)/python -m demo $(ARGS)

test: $(READY) ## all checks, and all but the slow tests
	@$(MAKE) --no-print-directory --jobs 2 lint imports
	@$(MAKE) --no-print-directory --jobs 2 unit types

lint: $(READY) ## ruff: style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy --strict
	$(BIN)/mypy

# Exits with 3 if the advisories cannot be downloaded and the result is therefore unknown.
audit: $(READY) ## known vulnerabilities of the packages in constraints.txt (asks pypi.org)
	@$(BIN)/pip-audit --disable-pip --no-deps --progress-spinner off --requirement constraints.txt > $(VENV)/audit.txt 2>&1; code=$$?; \
	unknown=$$(grep -c 'could not be audited' $(VENV)/audit.txt); \
	grep -v 'could not be audited' $(VENV)/audit.txt | tail -60; \
	if [ $$unknown -gt 0 ] || { [ $$code -ne 0 ] && grep -qE 'Max retries|ConnectionError|ServiceError' $(VENV)/audit.txt; }; then \
	  echo "· NOT audited: no advisories from pypi.org ($$unknown of $$(wc -l < constraints.txt) pins)"; exit 3; \
	fi; exit $$code

imports: $(READY) ## import-linter: which package may import which
	$(BIN)/lint-imports --no-cache

# Quick tests run in twice as many processes as there are cores, because they wait for the servers that they start; slow tests
# compute. All tests of a file run in the same process, because they share their set-up; tests/conftest.py says in
# which order.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# Rewritten tests are kept, whatever the environment says: to rewrite them takes ten seconds of each process.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest --numprocesses $(or $(WORKERS),$(shell echo $$(($(1) * $(CORES))))) --dist loadfile --no-loadscope-reorder

unit: $(READY) browser spark prometheus redis postgres registry ## pytest, all but the slow tests (ARGS=... to choose, WORKERS=0 for one process)
	$(call PYTEST,2) -m "not slow" $(ARGS)

test-slow: $(READY) browser spark prometheus redis postgres registry ## slow tests: load, chaos, whole pipelines
	$(call PYTEST,1) -m slow $(ARGS)

coverage: $(READY) browser spark prometheus redis postgres registry ## line and branch coverage of all tests
	$(call PYTEST,1) --cov --cov-branch --cov-report=term $(ARGS)

browser: # Chromium for the tests of the page, installed with apt; without it they are skipped
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "· installing Chromium for the tests of the page"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 \
	      || echo "· Chromium could not be installed: the tests of the page will be skipped"; \
	  fi; }

spark: $(READY) # pyspark, and Java installed with apt, for the Spark tests; without them they are skipped
	@$(BIN)/python -c 'import pyspark' 2>/dev/null || { \
	  echo "· installing pyspark (400 MB)"; \
	  $(BIN)/pip install -q --progress-bar off --constraint constraints.txt --editable '.[spark]' >/dev/null 2>&1 \
	    || echo "· pyspark could not be installed: the Spark tests will be skipped"; }
	@command -v java >/dev/null || [ -n "$$JAVA_HOME" ] || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "· installing Java for Spark"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends default-jre-headless; } >/dev/null 2>&1 \
	      || echo "· Java could not be installed: the Spark tests will be skipped"; \
	  fi; }

prometheus: # for the tests of boards and rules, installed with apt; without it they are skipped
	@command -v promtool >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "· installing Prometheus for the tests of its rules"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus; } >/dev/null 2>&1 \
	      || echo "· Prometheus could not be installed: the tests of its rules will be skipped"; \
	  fi; }

redis: # for the feature store's tests, installed with apt; without it they are skipped
	@command -v redis-server >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "· installing Redis for the feature store's tests"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server; } >/dev/null 2>&1 \
	      || echo "· Redis could not be installed: the feature store's Redis tests will be skipped"; \
	  fi; }

postgres: # for the event log's tests, installed with apt; without it they are skipped
	@command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "· installing PostgreSQL for the event log's tests"; \
	    mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql; } >/dev/null 2>&1 \
	      || echo "· PostgreSQL could not be installed: the event log's PostgreSQL tests will be skipped"; \
	  fi; }

registry: # for the tests of Bentos as images, installed with apt; without it they are skipped
	@command -v docker-registry >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "· installing a container registry for the tests of Bentos as images"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker-registry; } >/dev/null 2>&1 \
	      || echo "· docker-registry could not be installed: the tests of Bentos as images will be skipped"; \
	  fi; }

pipelines: $(READY) ## compile pipelines/*.py to pipelines/*.yaml
	$(BIN)/python -m pipelines compile

rules: $(READY) ## generate the PrometheusRules of the overlays from dashboards/prometheus/rules.yaml
	@$(BIN)/python -m dashboards.rules kubeflow > k8s/overlays/kind/rules.yaml
	@$(BIN)/python -m dashboards.rules immr > k8s/overlays/production/rules.yaml

# Other builders: IMAGE_TOOL=podman or IMAGE_TOOL=buildah. To pin the base by digest: PYTHON_IMAGE=...@sha256:...
IMAGE_TOOL ?= docker
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/immr/__init__.py)
IMAGE_TAG ?= $(VERSION)
PYTHON_IMAGE ?= docker.io/library/python:3.11-slim-bookworm

REGISTRY ?= immr

# GPU=1: CUDA's torch from TORCH_INDEX, and a compiler for Triton, in the pipeline's image
TORCH_INDEX ?= $(if $(GPU),https://pypi.org/simple,https://download.pytorch.org/whl/cpu)

images: ## build the images for Kubernetes (IMAGE_TOOL=docker REGISTRY=immr GPU=1)
	@for image in pipeline-python:pipeline serving:serving gateway:gateway; do \
	  $(IMAGE_TOOL) build --build-arg PYTHON_IMAGE=$(PYTHON_IMAGE) --build-arg VERSION=$(IMAGE_TAG) \
	    --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) \
	    --build-arg TORCH_INDEX=$(TORCH_INDEX) --build-arg GPU=$(GPU) \
	    --file k8s/images/$${image#*:}.Dockerfile --tag $(REGISTRY)/$${image%:*}:$(IMAGE_TAG) . || exit 1; \
	done

push: ## push these images (REGISTRY=registry.example/immr)
	@for image in pipeline-python serving gateway; do $(IMAGE_TOOL) push $(REGISTRY)/$$image:$(IMAGE_TAG) || exit 1; done

image-spark: ## build the image for governance on Spark, based on the pipeline's (run make images first)
	@$(IMAGE_TOOL) build --build-arg PIPELINE_IMAGE=$(REGISTRY)/pipeline-python:$(IMAGE_TAG) --build-arg VERSION=$(IMAGE_TAG) \
	  --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) \
	  --file k8s/images/spark.Dockerfile --tag $(REGISTRY)/spark:$(IMAGE_TAG) .

gpu: $(READY) ## on a machine with a GPU: compare it with the CPU, then measure times, 6 minutes (writes gpu.json)
	$(BIN)/python -m benchmarks.gpu --json gpu.json

clean: ## delete everything computed here (.immr), keep the environment
	rm -rf .immr
