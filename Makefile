# The project's verbs. `make` alone lists them. PYTHON=python3.13 chooses another Python for a new environment.
.DEFAULT_GOAL := help
PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
export PIP_ROOT_USER_ACTION := ignore

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

# Debian keeps venv in a package of its own; root may install it on the way.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is no Python 3.11 or newer; name one: make PYTHON=python3.13"; exit 1; }
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || { rm -rf .venv; \
	  echo "python3-venv is missing; as root on Debian: apt-get install python3-venv"; \
	  [ "$$(id -u)" = 0 ] && apt-get update -q >/dev/null && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv >/dev/null && \
	  echo "installed" && $(PYTHON) -m venv .venv; }

.venv/run.stamp: pyproject.toml | .venv/bin/python
	$(PIP) install -q -e .
	@touch $@

.venv/notebooks.stamp: pyproject.toml | .venv/bin/python
	$(PIP) install -q -e '.[notebooks,tunnel]'
	@touch .venv/run.stamp $@

.venv/dev.stamp: pyproject.toml | .venv/bin/python
	$(PIP) install -q -e '.[dev]'
	@touch .venv/run.stamp .venv/notebooks.stamp $@

demo: .venv/run.stamp ## install, then link the flows of a real capture to their tunnels
	.venv/bin/vpnf warm-up
	.venv/bin/vpnf correlate samples/wireguard/ingress.pcap samples/wireguard/egress.pcap --top 20
	@echo "The program is .venv/bin/vpnf"

# Without the tools the tests that need them are skipped; on a build machine (CI=true) all must be there.
test: .venv/dev.stamp ## the whole test suite (as root: with real VPNs in network namespaces)
	@.venv/bin/vpnf lab install || [ "$$CI" != true ]
	@.ci/tests

system: .venv/dev.stamp ## install the programs that `vpnf lab doctor` misses (root on Debian; else says so)
	.venv/bin/vpnf lab install

pythons: ## install, demo and quick tests on each Python from 3.11 on that this machine has
	.ci/pythons

check: .venv/dev.stamp ## format, lint, types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: .venv/dev.stamp ## put the code into the project's form
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

validate: .venv/dev.stamp ## evidence held against captures with truth: makes docs/validation.md anew (under 30 min)
	$(PY) benchmarks/validation.py

baselines: .venv/dev.stamp ## what others do on the same pairs: makes docs/baselines.md anew (10 min)
	$(PY) benchmarks/baselines.py

notebooks: .venv/notebooks.stamp ## open the notebooks in Jupyter
	$(PY) -m jupyter lab --notebook-dir=notebooks notebooks/01-first-case.ipynb

screenshot: .venv/dev.stamp ## make the README's picture of the HTML report anew (needs Chromium)
	$(PY) docs/images/screenshot.py

bench: .venv/dev.stamp ## speed and memory, beside peers in the same run
	$(PIP) install -q -r benchmarks/requirements.txt || true
	$(PY) benchmarks/cold.py
	$(PY) benchmarks/reading.py
	$(PY) benchmarks/logs.py
	$(PY) benchmarks/correlating.py
	$(PY) benchmarks/report.py

bench-scale: .venv/dev.stamp ## columns on disk, memory within a budget, first looks, Dask, on 10 M packets; 100 M within 4 GiB (an hour)
	$(PY) benchmarks/scale.py
	$(PY) benchmarks/memory.py
	$(PY) benchmarks/cluster.py
	$(PY) benchmarks/simulating.py
	$(PY) benchmarks/large.py

newcomer: ## a newcomer's first minutes, from git clone to the fourth notebook, by the clock
	$(PYTHON) benchmarks/newcomer.py

bench-tunnel: .venv/dev.stamp ## the reference tunnel's speed, and under attack, beside wireguard-go (root)
	$(PY) benchmarks/tunnel.py
	$(PY) benchmarks/tunnel.py journal
	$(PY) benchmarks/tunnel_cost.py
	$(PY) benchmarks/tunnel_attacks.py

validate-truth: .venv/dev.stamp ## links right, wrong and undecided on the recordings, damaged step by step
	$(PY) benchmarks/truth.py
	$(PY) benchmarks/steps.py

validate-scenes: .venv/dev.stamp ## links on simulated scenes that are hard each in its own way (half an hour)
	$(PY) benchmarks/scenes.py

validate-errors: .venv/dev.stamp ## wrong links over many damaged cases, beside the number allowed
	$(PY) benchmarks/error_rate.py

validate-open-set: .venv/dev.stamp ## false links of flows whose tunnel is absent: makes docs/open-set.md anew (half an hour)
	$(PY) benchmarks/open_set.py

RELAYS := $(addprefix samples/,shadowsocks trojan socks http-proxy-squid ssh-tun ssh-tun-gcm)
validate-streams: .venv/dev.stamp ## links through relays, on the samples damaged step by step; and beside what is aimed at
	$(PY) benchmarks/streams.py $(RELAYS)
	$(PY) benchmarks/stream_aims.py $(RELAYS) samples/tor

validate-fields: .venv/dev.stamp ## figures of the field engines, alone, fused and recorded (root: 10 min more)
	$(PY) benchmarks/fields.py
	$(PY) benchmarks/fields_lab.py
	$(PY) benchmarks/fusion.py
	@echo; echo 'cost: "all engines / packets alone" of `make bench` (aim at most 2)'

mutants: .venv/dev.stamp ## whether the tests of the deciding modules notice a change of any rule (10 min)
	$(PY) -m tests.mutants --show

corpus: .venv/dev.stamp ## what is said of every crafted capture, beside what is right; fails where one is wrong
	$(PY) -m tests.corpus

lab: .venv/dev.stamp ## record every VPN driver and correlate it; fails where one takes 20 s too long (root)
	$(PY) -m vpnforensics.groundtruth.lab.survey

likeness: .venv/dev.stamp ## record a scenario, simulate it, and compare their distributions (root)
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	  .venv/bin/vpnf lab run benchmarks/likeness.yaml -o "$$folder" && \
	  $(PY) -m vpnforensics.groundtruth.simulate.compare benchmarks/likeness.yaml "$$folder"

package: .venv/dev.stamp ## sdist and wheel into dist/: built, checked, each installed and used in a bare environment
	.ci/package

dataset: .venv/run.stamp ## a labelled data set into DIR (dist/dataset), SIZE=small|medium|large (root: with the lab's)
	$(PY) -m vpnforensics.groundtruth.dataset $(or $(DIR),dist/dataset) --size $(or $(SIZE),small)

docs: .venv/dev.stamp ## the documentation site into build/site; fails on any warning
	$(PY) docs/generate/site.py build/docs
	$(PY) -m zensical build --strict --clean

man: .venv/dev.stamp ## man pages of every command, into dist/man
	$(PY) docs/generate/man.py dist/man

clean: ## remove the environment and caches
	rm -rf .venv build dist .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help demo test system pythons check format notebooks screenshot bench bench-scale bench-tunnel newcomer validate baselines validate-truth validate-scenes validate-errors validate-open-set validate-streams validate-fields mutants corpus lab likeness package dataset docs man clean
