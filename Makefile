# Needs Python 3.11 to 3.13 and make; everything else is installed into .tools/ and .venv/.
# Paths are relative and scripts run as `python -m`: both work in a folder with spaces in its name.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

UV := sh scripts/uv.sh
PY := .venv/bin/python
# Options handed on: make test ARGS="-k gaps", make demo ARGS="--help"
ARGS ?=
# Test processes; each one starts its own database. More than cores, as they mostly wait for servers.
WORKERS ?= 3
NAME ?=

# Without these two Dagster records partitions one by one, and a backfill takes ten times as long.
export DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS := 1
export DAGSTER_EVENT_BATCH_SIZE := 1000

# Where the environment keeps Python from keeping compiled modules, each process compiles all that it
# imports anew: Dagster then starts in three times the time, and the tests start hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo dev topology test lint types format docs bench evaluate clean

help: ## Show this help
	@echo "make <target>"
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' Makefile

demo: .venv/.installed-to-run ## See it work: simulated streams, faults and what is found in them
	@$(PY) -m anomaly_assets demo $(ARGS)

dev: .venv/.installed-to-develop ## Start everything here: database, Dagster's daemon and pages
	@$(PY) -m anomaly_assets up $(ARGS)

topology: .venv/.installed-to-develop ## Run the services of docker-compose.yml here, as plain processes
	@$(PY) deploy/topology.py $(ARGS)

test: .venv/.installed-to-develop ## Run all tests and the examples in docstrings (ARGS="-k name")
	$(PY) -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

lint: .venv/.installed-to-develop ## Check style, format and the direction of imports
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

types: .venv/.installed-to-develop ## Check types with mypy
	$(PY) -m mypy

format: .venv/.installed-to-develop ## Rewrite the code as ruff likes it
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: export NO_MKDOCS_2_WARNING := 1
docs: .venv/.installed-to-develop ## Build the documentation as a site: site/index.html
	$(PY) -m mkdocs build --strict --quiet

# One thread, so that figures do not depend on what else the cores are doing.
bench: export OMP_NUM_THREADS := 1
bench: export OPENBLAS_NUM_THREADS := 1
bench: .venv/.installed-to-develop ## Run one benchmark (NAME=...)
	@if [ -z "$(NAME)" ] || { [ ! -f "benchmarks/$(NAME).py" ] && [ ! -f "benchmarks/$(NAME)/__main__.py" ]; }; then \
		echo "There is no benchmark '$(NAME)'. Run make bench NAME=<one of these>:" >&2; \
		for path in benchmarks/*.py benchmarks/*/__main__.py; do \
			name=$${path#benchmarks/}; name=$${name%/__main__.py}; name=$${name%.py}; \
			case "$$name" in _* | '*') ;; *) echo "  $$name" >&2 ;; esac; \
		done; \
		exit 2; \
	fi
	@$(PY) -m "benchmarks.$(NAME)" $(ARGS)

evaluate: .venv/.installed-to-develop ## Score a labelled data set (NAME=...), as JSON
	@if [ -z "$(NAME)" ]; then \
		echo "Which data set? Run make evaluate NAME=...; the names: $(PY) -m anomaly_assets evaluate --help" >&2; \
		exit 2; \
	fi
	@$(PY) -m anomaly_assets evaluate "$(NAME)" --json $(ARGS)

clean: ## Remove caches, environments and tools; data in .anomaly_assets stays
	rm -rf .venv .tools site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --inexact keeps what developing added.
.venv/.installed-to-run: pyproject.toml uv.lock scripts/uv.sh
	@$(UV) sync --locked --quiet --inexact --extra embedded --extra causal --extra live --extra dashboard
	@touch $@

.venv/.installed-to-develop: pyproject.toml uv.lock scripts/uv.sh
	@$(UV) sync --locked --quiet --all-extras
	@touch $@ .venv/.installed-to-run
