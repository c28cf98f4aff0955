# `make` lists what there is. Everything is made inside this directory (.venv, runs) and in the cache of
# testbed ($TESTBED_CACHE, default ~/.cache/testbed); the host gets a Debian package only when one is missing,
# and that is said first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON_FILES := testbed qemu-devices tests

# Programs that setup and the build of the virtual environment take from the host, and their packages.
HOST_PROGRAMS := apt-get:apt dpkg-deb:dpkg tar:tar unshare:util-linux setpriv:util-linux $(PYTHON):python3
HOST_FILES := /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring

.DEFAULT_GOAL := help
.PHONY: help host setup run check test bench clean

help:  ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

host:
	@missing=""; \
	for item in $(HOST_PROGRAMS); do command -v "$${item%%:*}" >/dev/null || missing="$$missing $${item#*:}"; done; \
	for item in $(HOST_FILES); do test -e "$${item%%:*}" || missing="$$missing $${item#*:}"; done; \
	test -x $(BIN)/python || $(PYTHON) -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	missing=$$(printf '%s\n' $$missing | sort -u | tr '\n' ' '); \
	test -n "$${missing% }" || exit 0; \
	if [ "$$(id -u)" != 0 ]; then \
		echo "This machine lacks Debian packages. As root: apt-get install $$missing" >&2; exit 2; \
	fi; \
	echo "Installing Debian packages on this machine: $$missing"; \
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing

$(STAMP): pyproject.toml | host
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.11" >&2; exit 2; }
	@echo "Installing into $(VENV): testbed and the Python packages named in pyproject.toml (about 200 MB)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input --editable '.[dev]'
	@touch $@

setup: $(STAMP)  ## Make toolbox, kernel, guest image, modules (again: at once)
	@$(BIN)/testbed setup

run: $(STAMP)  ## Set up everything and run the smoke scenarios
	@$(BIN)/testbed setup
	@$(BIN)/testbed run scenarios/smoke

check: $(STAMP)  ## Linters, types and unit tests: no QEMU
	@$(BIN)/ruff check $(PYTHON_FILES)
	@$(BIN)/ruff format --check $(PYTHON_FILES)
	@$(BIN)/mypy
	@$(BIN)/codespell
	@$(BIN)/pytest -q tests/unit

test: $(STAMP)  ## Everything that make check does, and the tests with devices and guests
	@$(BIN)/testbed setup
	@$(MAKE) --no-print-directory check
	@$(BIN)/pytest -q tests/devices tests/qemu

bench: $(STAMP)  ## Measure and print the figures of docs/performance.md
	@$(BIN)/testbed setup
	@$(BIN)/testbed bench

clean:  ## Remove what was made here (.venv, runs); the cache goes by `testbed clean`
	rm -rf $(VENV) runs build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
