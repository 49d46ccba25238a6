# Everything a user or a contributor runs. Each target sets up `.venv` first, once; the demo as much as it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
STAMP := $(VENV)/.installed
SUMMARY := benchmarks/methods.py
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Two test processes share two cores, and the tensors of tests and demo are small: one thread each does more than
# two that wait for one another.
ONE_THREAD := OMP_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow explore lint docs picture bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## .venv with pinned dependencies

$(CORE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Edgewise needs Python 3.11 or newer, this is " \
	  + sys.version.split()[0] + ". Try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	@echo "Setting up $(VENV): a few minutes the first time."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -c constraints.txt torch==2.13.0
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(STAMP): $(CORE)
	@$(PIP) install -c constraints.txt -e '.[dev,docs]'
	@touch $@

demo: $(CORE) ## train a small network in less than half the memory that plain backprop needs
	@rm -rf build/demo
	@mkdir -p build
	$(ONE_THREAD) $(BIN)/edgewise train digits --device stm32f7 --ram 320KiB -o build/demo

test: setup ## the tests, without the ones that take minutes
	$(ONE_THREAD) $(BIN)/pytest -n 2 -m "not slow"

test-slow: setup ## the tests that take minutes
	$(ONE_THREAD) $(BIN)/pytest -n 2 -m slow

explore: setup ## the property tests on other examples each time, most of them on ten times as many
	$(ONE_THREAD) $(BIN)/pytest -n 2 -m "not slow" --hypothesis-profile explore $(shell grep -rl "hypothesis import" tests)

lint: setup ## ruff and mypy --strict
	$(BIN)/ruff check
	$(BIN)/mypy

docs: setup ## the documentation, into site/
	$(BIN)/python -m edgewise.cli.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

picture: setup ## the picture in the README, from a run of the demo
	$(BIN)/python docs/picture.py

bench: setup ## every claim measured anew; writes docs/benchmarks/
	@set -e; for claim in $$(ls benchmarks/[!_]*.py | grep -vx $(SUMMARY)) $(SUMMARY); do \
	  echo "== $$claim"; $(BIN)/python $$claim; done

clean: ## remove what the other targets made, but not .venv
	rm -rf build site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
