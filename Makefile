# Everything runs from its own .venv, made from nothing but python3 and make.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools

.PHONY: demo test lint format docs bench soak clean

demo: $(READY)
	$(VENV)/bin/workledger demo

test: $(TOOLS)
	$(VENV)/bin/python -m pytest -q -n 3 --dist loadfile

lint: $(TOOLS)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(READY)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: $(READY)
	$(VENV)/bin/python -m runner.man

bench: $(TOOLS)
	$(VENV)/bin/python -m pytest bench -q --benchmark-json=bench/results/latest.json

soak: $(TOOLS)
	$(VENV)/bin/python -m pytest -q -m soak

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "workledger needs Python 3.11 or newer; name one: make PYTHON=python3.11 ...")'
	@echo "Making $(VENV): pinned packages, checked by hash ..."
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $(READY)

# Reporting tools that tests and benchmarks read reports with: 500 MB, which the demo need not wait for.
$(TOOLS): requirements-tools.txt $(READY)
	@echo "Adding reporting tools to $(VENV) ..."
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-tools.txt
	@touch $(TOOLS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
