# Everything is set up from a bare checkout: `make test` needs Python >= 3.11 and make, nothing else.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin/python -m
# Two processes; the tests of one file stay together, so that a file starts its peers once.
PYTEST := $(RUN) pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench gigabyte soak fuzz stamps regress peers peers-all clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  PYTHON=python3.12 chooses the interpreter; ARGS='-k rekey -x' is passed on to pytest."

demo: $(READY)  ## an embedded server, a client, and the timeline of their whole connection
	$(RUN) glasshell demo

test: $(READY)  ## the whole suite; tests whose peer is not installed are skipped by name
	$(PYTEST) $(ARGS)

lint: $(READY)  ## ruff, and mypy in strict mode
	$(RUN) ruff check .
	$(RUN) mypy

bench: $(READY)  ## every line of docs/performance.md beside the peers (make peers first; ARGS=trips: one)
	$(RUN) tests.bench $(ARGS)

gigabyte: $(READY)  ## a capture of 1 GB is read within 300 MB of memory, beside tshark
	$(RUN) tests.bench.captures 1000

soak: $(READY)  ## ten thousand connections in one process leave nothing behind, memory included
	GLASSHELL_SOAK=10000 $(RUN) pytest -s tests/aio/test_leaks.py $(ARGS)

fuzz: $(READY)  ## the property tests again, with many and random examples
	$(PYTEST) -m hypothesis --hypothesis-profile=fuzz $(ARGS)

stamps: $(READY)  ## the stamps of our records beside a packet capture, both roles (root, tcpdump)
	$(VENV)/bin/python scripts/stamps.py

regress: $(READY)  ## OpenSSH's own regress scripts with our programs, into docs/compatibility.md (root, openssh-tests)
	$(VENV)/bin/python scripts/regress.py $(ARGS)

peers:  ## install the independent SSH programs the interop tests talk to (root, Debian)
	scripts/peers.sh

peers-all:  ## install the clients of other languages too (root, Debian, npm, PyPI; not in CI)
	scripts/peers-all.sh

clean:  ## remove the environment and every cache
	rm -rf $(VENV) build .hypothesis .mypy_cache .pytest_cache .ruff_cache src/*.egg-info

# Rebuilt whole when pyproject.toml changes, so that no dependency of the past stays behind.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "glasshell needs Python 3.11 or newer; choose one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) lacks ensurepip, so it cannot make an environment: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
