# The project's verbs. `make` alone lists them.
.DEFAULT_GOAL := help
PY := .venv/bin/python
SHELL := /bin/bash

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

# Debian keeps venv in a package of its own; root may install it on the way.
.venv/bin/python:
	@python3 -m venv .venv 2>/dev/null || { rm -rf .venv; \
	  echo "python3-venv is missing; installing it (needs root)"; \
	  apt-get install -y -q python3-venv >/dev/null && python3 -m venv .venv; }

.venv/run.stamp: pyproject.toml | .venv/bin/python
	.venv/bin/pip install -q --disable-pip-version-check -e .
	@touch $@

.venv/dev.stamp: pyproject.toml | .venv/bin/python
	.venv/bin/pip install -q --disable-pip-version-check -e '.[dev]'
	@touch .venv/run.stamp $@

demo: .venv/run.stamp ## install, then link the flows of a real capture to their tunnels
	.venv/bin/vpnf correlate samples/wireguard/ingress.pcap samples/wireguard/egress.pcap --top 20

test: .venv/dev.stamp ## the whole test suite (as root: with real VPNs in network namespaces)
	$(PY) -m pytest

check: .venv/dev.stamp ## format, lint, types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

format: .venv/dev.stamp ## put the code into the project's form
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

notebooks: .venv/dev.stamp ## open the first case in Jupyter
	.venv/bin/jupyter lab notebooks/01-first-case.ipynb

bench: .venv/dev.stamp ## speed and memory, beside peers in the same run
	.venv/bin/pip install -q --disable-pip-version-check -r benchmarks/requirements.txt || true
	$(PY) benchmarks/reading.py
	$(PY) benchmarks/correlating.py

bench-tunnel: .venv/dev.stamp ## throughput of the reference tunnel beside wireguard-go and OpenVPN (root)
	$(PY) benchmarks/tunnel.py
	$(PY) benchmarks/tunnel.py journal

validate-truth: .venv/dev.stamp ## links right, wrong and undecided on the recordings, damaged step by step
	$(PY) benchmarks/truth.py

validate-errors: .venv/dev.stamp ## wrong links over many damaged cases, beside the number allowed
	$(PY) benchmarks/error_rate.py

validate-fields: .venv/dev.stamp ## figures of the field engines, alone, fused and recorded (root: 10 min more)
	$(PY) benchmarks/fields.py
	$(PY) benchmarks/fields_lab.py
	$(PY) benchmarks/fusion.py
	@echo; echo 'cost: "all engines / packets alone" of `make bench` (aim at most 2)'

lab: .venv/dev.stamp ## record every VPN driver and correlate it; fails where one takes 20 s too long (root)
	$(PY) -m vpnforensics.groundtruth.lab.survey

likeness: .venv/dev.stamp ## record a scenario, simulate it, and compare their distributions (root)
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	  .venv/bin/vpnf lab run benchmarks/likeness.yaml -o "$$folder" && \
	  $(PY) -m vpnforensics.groundtruth.simulate.compare benchmarks/likeness.yaml "$$folder"

clean: ## remove the environment and caches
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help demo test check format notebooks bench bench-tunnel validate-truth validate-errors validate-fields lab likeness clean
