# Everything runs in .venv, which is created on first use. PYTHON chooses the interpreter: make test PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo

# What test-lowest runs on. Two things are not lowered: torch, whose older releases are gigabytes of
# CUDA libraries, and dependencies of dependencies, which may deprecate what an old release calls.
LOWEST := .venv-lowest/bin
TORCH ?= torch==2.13.0
# A process per processor and one more, each file in one of them; four processes take about 5 GB.
PARALLEL ?= --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: help setup demo test test-lowest test-readers lint types contracts docs site bench quality gpu clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.venv/installed: pyproject.toml .ci/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "msdtool needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[demo]'
	touch $@

.venv/developing: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[demo,dev]'
	touch $@

setup: .venv/developing ## Make .venv with msdtool, the demo's and the development tools

demo: .venv/installed ## Make few-view tomograms of real images, train on them, compare with other methods
	$(BIN)/msdtool demo tomograms --output $(DEMO)
	$(BIN)/msdtool check $(DEMO)/denoise.yaml
	$(BIN)/msdtool train $(DEMO)/denoise.yaml --overwrite
	$(BIN)/msdtool predict $(DEMO)/run '$(DEMO)/test/noisy' --output $(DEMO)/predictions --overwrite
	$(BIN)/msdtool evaluate $(DEMO)/run --input '$(DEMO)/test/noisy' --target '$(DEMO)/test/clean' --figure $(DEMO)/images.png
	$(BIN)/python -m msdtool.demo.rivals $(DEMO)

test: lint types contracts ## Check everything: lint, types, import contracts, tests
	$(BIN)/python -m pytest $(PARALLEL)

.venv-lowest/installed: pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST)/python -m pip install --quiet uv '$(TORCH)'
	$(LOWEST)/python -m pip uninstall --quiet --yes filelock
	$(LOWEST)/uv pip install --python $(LOWEST)/python --resolution lowest-direct --editable '.[demo,dev]'
	touch $@

test-lowest: .venv-lowest/installed ## Run the fast tests on the lowest versions that pyproject allows
	$(LOWEST)/python -m pytest -m 'not slow' -W ignore::DeprecationWarning $(PARALLEL)

.venv/readers/installed: .ci/readers.txt pyproject.toml # an environment of its own
	$(PYTHON) -m venv .venv/readers
	.venv/readers/bin/python -m pip install --quiet '$(TORCH)' --editable '.[volumes]' pytest --requirement .ci/readers.txt
	touch $@

test-readers: .venv/readers/installed ## Open results with the readers that napari and others use
	.venv/readers/bin/python -m pytest -W default tests/predict/test_other_readers.py

lint: setup ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## Check types
	$(BIN)/mypy

contracts: setup ## Check that modules import only from below
	$(BIN)/lint-imports

docs: setup ## Regenerate the table of config keys and the figure of the rooms in docs/
	$(BIN)/python -m msdtool.config.reference docs/configuration.md
	$(BIN)/python docs/images/architecture.py

.venv/site/installed: .ci/site.txt # a virtual environment of its own
	$(PYTHON) -m venv .venv/site
	.venv/site/bin/python -m pip install --quiet --requirement .ci/site.txt
	touch $@

site: .venv/site/installed ## Build the documentation as a web site in build/site
	.venv/site/bin/mkdocs build --quiet --config-file .ci/mkdocs.yml
	@echo build/site/index.html

bench: .venv/installed ## Compare the MSD block with plain torch and the machine's limit
	$(BIN)/msdtool bench

.venv/quality/installed: .ci/quality.txt pyproject.toml # an environment of its own, with other networks
	$(PYTHON) -m venv .venv/quality
	.venv/quality/bin/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[demo]' --requirement .ci/quality.txt
	touch $@

quality: .venv/quality/installed ## Compare the network with U-Nets and other methods; an hour or more of one core
	nice .venv/quality/bin/python docs/quality.py build/quality
	@echo build/quality/table.md

gpu: setup ## On a machine with a GPU: tests of the kernels, times, a profile and doctor, saved in gpu/
	.ci/gpu $(BIN)/python

clean: ## Remove environments, caches and the demo's files
	rm -rf .venv .venv-lowest build dist gpu $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis
