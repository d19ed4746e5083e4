# Everything runs in .venv, made on first use. PYTHON chooses the interpreter: make test PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo

.PHONY: help setup demo test lint types contracts docs bench gpu clean

help: ## Show this help
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.venv/installed: pyproject.toml .ci/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "msdtool needs Python 3.10 or newer; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[demo,dev]'
	touch $@

setup: .venv/installed ## Make .venv with msdtool, the demo's and the development tools

demo: setup ## Make low-dose tomograms of real images, train on them, show input | output | target
	$(BIN)/msdtool demo tomograms --output $(DEMO)
	$(BIN)/msdtool check $(DEMO)/denoise.yaml
	$(BIN)/msdtool train $(DEMO)/denoise.yaml --overwrite
	$(BIN)/msdtool predict $(DEMO)/run '$(DEMO)/test/noisy' --output $(DEMO)/predictions --overwrite
	$(BIN)/msdtool evaluate $(DEMO)/run --input '$(DEMO)/test/noisy' --target '$(DEMO)/test/clean' --figure $(DEMO)/result.png

test: lint types contracts ## Check everything: lint, types, import contracts, tests
	$(BIN)/python -m pytest

lint: setup ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## Check types
	$(BIN)/mypy

contracts: setup ## Check that modules import only from below
	$(BIN)/lint-imports

docs: setup ## Write the README's table of config keys anew from the schema
	$(BIN)/python -m msdtool.config.reference README.md

bench: setup ## Measure the MSD block against plain torch and the machine's limit
	$(BIN)/msdtool bench

gpu: setup ## On a machine with a GPU: doctor, its tests, bench and a profile, kept in gpu/
	.ci/gpu $(BIN)/python

clean: ## Remove .venv, caches and the demo's files
	rm -rf .venv build dist gpu $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis
