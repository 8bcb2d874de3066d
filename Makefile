# The commands of everyday work. Each makes .venv itself where it is missing or older than what it is made from.
VENV := .venv
SOURCES := pyproject.toml constraints.txt
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo dev test check format constraints clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-embedded ## Run the sample pipeline end to end on this machine, and stop
	@$(VENV)/bin/datanadhi-worker demo

dev: $(VENV)/.installed-embedded ## The same, and stay up for trying things on
	@$(VENV)/bin/datanadhi-worker dev

test: $(VENV)/.installed-test ## Run the tests; PYTEST_ARGS="-k words" picks some
	@$(VENV)/bin/pytest --numprocesses logical --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

check: $(VENV)/.installed-dev ## Lint, formatting, types, direction of imports
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo

format: $(VENV)/.installed-dev ## Format the code and mend what lint can mend
	@$(VENV)/bin/ruff check --fix
	@$(VENV)/bin/ruff format

constraints: ## Renew constraints.txt with the newest releases that pyproject.toml allows (run it with Python 3.11)
	@.ci/constraints

clean: ## Remove .venv and everything that tools left behind
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed-%: $(SOURCES)
	@.ci/venv $*
