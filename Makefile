# Nothing but Python >= 3.11, pip and make is needed; everything else goes into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# PyPI's plain torch pulls gigabytes of CUDA; this release has a CPU build.
TORCH  := torch==2.13.0
# Processes that the tests are shared out to; each takes up to 3 GiB.
JOBS   := 2
# Azure's emulator of its storage; the plain name is an older one.
AZURITE := azurite@3.37.0
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo test check format bench docs clean

help:
	@echo "make demo    draw a sample clip, paint it, show before and after"
	@echo "make test    run the test suite, in two processes (JOBS=2)"
	@echo "make check   ruff, mypy --strict, import-linter"
	@echo "make format  let ruff rewrite what it can"
	@echo "make bench   measure speed and memory against the reference's method"
	@echo "make docs    write docs/cli.md and docs/api.md anew from what they describe"

$(VENV)/base: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -e .
	@touch $@

$(VENV)/dev: $(VENV)/base
	$(PIP) install $(TORCH)
	$(PIP) install -e ".[dev,train,optimise,serve]"
	@if command -v npm >/dev/null; then \
	  npm install --silent --no-fund --no-audit --prefix $(VENV)/azurite $(AZURITE); \
	else echo "no npm here: tests against Azurite will be skipped"; fi
	@touch $@

demo: $(VENV)/base
	@$(BIN)/python examples/demo.py

# Each process takes whole files, the longest first. One file alone: .venv/bin/pytest tests/test_x.py
test: $(VENV)/dev
	$(BIN)/python -m pytest -q --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder \
	  --max-worker-restart=0

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/dev
	$(BIN)/python benchmarks/run.py

docs: $(VENV)/dev
	$(BIN)/python -m impasto.cli.reference docs/cli.md
	$(BIN)/python -m impasto.service.api.reference docs/api.md

clean:
	rm -rf $(VENV) demo build dist
