# `make demo` and `make test` set up everything themselves: Python 3.11, make and the package registry are enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find src dicom_io models pipelines evaluation server proto -type f -not -path '*/__pycache__/*')
DEMO_OUT ?= demo-out
# Processes of one thread each: one more than there are cores, for many tests wait for a server to start or for a time to
# pass, as far as there are 4 GB for each. Tests of one file stay together: they share the server that the file starts.
PROCESSES ?= $(shell awk -v cores=$$(nproc) '/MemTotal/ { most = int($$2 / 4e6); n = cores + 1; if (n > most) n = most; \
	if (n > 8) n = 8; print (n < 1) ? 1 : n }' /proc/meminfo 2>/dev/null || echo 2)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: setup demo test test-fast serve lint format bench proto clean

setup: $(VENV)/.installed

# The locked dependencies; again only when the lock changes.
$(VENV)/.dependencies: requirements.lock requirements-data.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock -r requirements-data.txt
	touch $@

# The project as a user has it: a real install of the built package, again when a source file changes.
$(VENV)/.installed: $(VENV)/.dependencies pyproject.toml README.md LICENSE $(SOURCES)
	rm -rf build *.egg-info
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --force-reinstall .
	rm -rf build *.egg-info
	touch $@

# Real DICOM peers for the tests, where this user may install them; elsewhere the tests that need them say so and are skipped.
$(VENV)/.peers: | $(VENV)/.dependencies
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		(apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			dcmtk orthanc orthanc-dicomweb orthanc-python poppler-utils) >/dev/null 2>&1 || echo "DCMTK and Orthanc could not be installed"; \
	else echo "not root: DCMTK and Orthanc are not installed, their tests are skipped where they are absent"; fi
	@touch $@

demo: setup
	$(BIN)/radserve infer "$$($(BIN)/python examples/demo_input.py)" --out $(DEMO_OUT) --indication "Cough and fever"

test: setup $(VENV)/.peers
	$(PYTEST)

test-fast: setup
	$(PYTEST) -m "not slow and not integration"

serve: setup
	$(BIN)/radserve serve

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/preprocess.py
	$(BIN)/python benchmarks/serving.py

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: setup
	PYTHON=$(CURDIR)/$(BIN)/python proto/generate.sh

clean:
	rm -rf $(VENV) build *.egg-info $(DEMO_OUT)
