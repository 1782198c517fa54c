# Two commands are enough for a newcomer: `make demo` and `make test`. Each creates .venv and installs what it needs.
# PYTHON names the interpreter that .venv is made with; pip resolves with whatever this machine configures.

PYTHON ?= python3
ARGS ?=
# How many tests may run at once. Each file's tests stay in one process, one after the other.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
# The second environment: the newest numpy, pandas and scikit-learn there are, and no autofeat.
MODERN := .venv-modern
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet

# The tests start more than a thousand processes, each of which would compile the project anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: demo test test-modern lint stress bench docs clean help

demo: $(VENV)/.installed-demo ## run a real AutoFeat job on real data inside a memory budget
	@$(BIN)/python -m tools.demo

test: $(VENV)/.installed-test ## run the tests (ARGS="-k name" for some of them)
	@$(BIN)/python -m pytest -q -m "not heavy" -n $(JOBS) --dist loadfile $(ARGS)

test-modern: $(MODERN)/.installed-modern ## run the engine's tests on the newest numpy, pandas and scikit-learn
	@$(MODERN)/bin/python -m pytest -q -m "not heavy" -n $(JOBS) --dist loadfile tests/integrations/autofeat/engine $(ARGS)

lint: $(VENV)/.installed-test $(VENV)/.installed-lint ## check style, types, spelling and generated pages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy tests/typing tools
	@$(BIN)/codespell
	@$(BIN)/python -m tools.docs --check

stress: $(VENV)/.installed-test ## run the heavy tests, the property tests on new examples and every stress program
	@$(BIN)/python -m pytest -q -m heavy $(ARGS)
	@$(BIN)/python -m pytest -q -m "hypothesis and not heavy" --hypothesis-profile=explore $(ARGS)
	@set -e; for program in stress/[a-z]*.py; do echo "== $$program"; $(BIN)/python "$$program"; done

bench: $(VENV)/.installed-test ## print the benchmarks' figures
	@set -e; for program in benchmarks/[a-z]*.py; do echo "== $$program"; $(BIN)/python "$$program"; done

docs: $(VENV)/.installed-test ## write the generated pages in docs/
	@$(BIN)/python -m tools.docs

clean: ## remove everything that make has made, .venv included
	@rm -rf $(VENV) $(MODERN) demo-output .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

# An environment that works is kept, whoever made it; a broken or half-made one is made again.
$(VENV)/.created:
	@if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	  command -v $(PYTHON) >/dev/null || { \
	    echo "there is no $(PYTHON) here: install Python 3.11 or newer, or name one with PYTHON=/path/to/python3" >&2; exit 1; }; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "memguard needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1): name a newer one with PYTHON=python3.12" >&2; exit 1; }; \
	  echo "creating $(VENV) with $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv $(VENV) || { \
	    rm -rf $(VENV); echo "$(PYTHON) cannot make environments (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }; \
	fi
	@touch $@

$(VENV)/.installed-%: pyproject.toml $(VENV)/.created
	@echo "installing memguard[$*] into $(VENV) (the first time takes a minute or two)"
	@$(PIP) install --editable ".[$*]"
	@touch $@

$(MODERN)/.installed-modern: pyproject.toml
	@test -x $(MODERN)/bin/python || $(PYTHON) -m venv $(MODERN)
	@echo "installing memguard[modern] into $(MODERN) (the first time takes a minute or two)"
	@$(MODERN)/bin/python -m pip --disable-pip-version-check --quiet --quiet install --upgrade --upgrade-strategy eager \
	  --editable ".[modern]"
	@touch $@
