# The verbs of the project. `make` alone prints them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
BUILD := build
SETUP := $(BUILD)/.setup

.PHONY: help setup demo check test test-unit test-privileged test-vm image protos protos-check api-page \
	bench clean-room clean

help: ## Print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SETUP) ## Install what the project needs; leaves .venv/bin/pykata and .venv/bin/kata-agent

$(SETUP): .ci/packages.txt .ci/install-packages pyproject.toml
	.ci/install-packages .ci/packages.txt
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(PYTHON) -m host.vm.vsock_daemon
	mkdir -p $(BUILD) && touch $@

image: setup ## Build the guest image (skipped while nothing it is made of has changed)
	$(PYTHON) rootfs-image/build.py

demo: image ## Run containers with volumes in real VMs and show where the data is
	$(PYTHON) -m host.demo

check: setup ## ruff, mypy --strict, import contracts, sizes, generated code
	$(PYTHON) -m pytest -q tests/house

test: image ## Every floor of tests; fails when a floor cannot run or a test is skipped
	$(PYTHON) -m tests.floors house unit contract privileged vm

test-unit: setup ## Tests that need nothing
	$(PYTHON) -m tests.floors unit contract

test-privileged: setup ## Tests that need root: real mounts, loop devices, crun
	$(PYTHON) -m tests.floors privileged

test-vm: image ## Tests that boot the guest image in QEMU
	$(PYTHON) -m tests.floors vm

protos: setup ## Generate descriptor sets and type stubs from protos/*/*.proto
	$(PYTHON) protos/generate.py

protos-check: setup ## Fail when the generated files are not what the protos say
	$(PYTHON) protos/generate.py --check

api-page: setup ## Write docs/api.md from the routes and the tests
	$(PYTHON) docs/generate_api.py

bench: image ## Measure the figures of docs/performance.md
	$(PYTHON) -m bench

clean-room: ## Prove the README's commands in a fresh Debian 12 root
	.ci/clean-room

clean: ## Remove what the verbs above have built
	rm -rf $(BUILD) $(VENV)
