# The two commands of the README are `make demo` and `make test`.
# The system's Python, where it is new enough, or else the first on the path: distributions
# build theirs by a profile, which pyenv does not unasked, and that is a fifth of our speed.
PYTHON ?= $(or $(shell for one in /usr/bin/python3 python3; do $$one -c 'import ensurepip, sys; \
    sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$one && break; done), python3)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready-$(shell cat requirements.lock pyproject.toml 2>/dev/null | cksum | tr ' ' '-')

.DEFAULT_GOAL := help
.PHONY: help install tools demo test bench soak picture lint format lock clean

help: ## list what make can do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1|/' | column -t -s '|'

install: $(READY) ## make .venv/bin/deletions from the lock file

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.ready-* && touch $@

# systemd without its own init: only the tool that checks unit files is wanted.
TOOLS := chromium chromium-driver prometheus systemd

tools: ## install what some tests use beside Python: a browser, promtool (Debian, as root)
	@for one in $(TOOLS); do dpkg -s $$one >/dev/null 2>&1 || missing="$$missing $$one"; done; \
	test -z "$$missing" || { apt-get -qq update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
	    apt-get -qq install --no-install-recommends -y $$missing >/dev/null; }

demo: install ## delete thousands of items for real, on practice servers
	@$(BIN)/deletions demo

test: install lint ## run every check and every test
	$(BIN)/pytest
	$(BIN)/pytest --numprocesses=0 -m speed

soak: install ## break everything for MINUTES=10 by SEED=0, and hold the reports to account
	$(BIN)/pytest -m soak
	@$(BIN)/python -m tests.acceptance.fire --minutes $(or $(MINUTES),10) --seed $(or $(SEED),0)

bench: install ## measure us beside what people do today (an hour or two)
	$(BIN)/python -m tests.benchmarks --json bench.json --pictures tests/benchmarks

picture: install ## take the README's picture of Flower (needs chromium and its driver)
	$(BIN)/python -m tests.integration.test_flower_in_a_browser deploy/flower/tasks.png

lint: install ## style, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: install ## put the code in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: install ## resolve the pins of requirements.lock anew (needs uv)
	uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-annotate --no-header --group dev --extra postgresql pyproject.toml --output-file requirements.lock

clean: ## remove what make made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
