# Needs Python, git and make only: the set-up makes its own virtual environment.

VENV ?= .venv
# A path or name of the Python to use; by default the newest supported one that .ci/find_python.sh finds.
PYTHON ?=
# Arguments passed on by `make demo` (to the experiment) and `make test` (to pytest).
ARGS ?=
# Processes for the tests. Each takes whole files, whose tests share what they compile.
WORKERS ?= 2

BIN = $(VENV)/bin
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# An environment made with another Python than the one asked for is made anew.
ifneq ($(strip $(PYTHON)),)
ifneq ($(shell sh .ci/find_python.sh newest "$(PYTHON)" 2>/dev/null),$(shell cat "$(VENV)/.python" 2>/dev/null))
ANEW = anew
endif
endif

.PHONY: help demo test capabilities lint format types docs wheel clean anew

help: ## show this
	@echo "make TARGET [PYTHON=/path/to/python] [ARGS='...']"
	@sed -n 's/^\([a-z]*\):.*## /  \1:\t/p' Makefile

demo: $(VENV)/.experiments ## invert for a small model and draw it: experiments/first_inversion (ARGS='--preset full')
	$(BIN)/python experiments/first_inversion/run.py $(ARGS)

test: $(VENV)/.test ## run the tests but the slow ones (ARGS='-m slow' for those)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

capabilities: $(VENV)/.test ## measure what works for which equation, and write docs/capabilities.md (half an hour)
	$(BIN)/python tests/capabilities.py

lint: $(VENV)/.test ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.test ## mend what `make lint` can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.test ## check types
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.docs ## build the documentation, docs/_build/html, and run its notebooks; warnings are errors
	$(BIN)/python -m sphinx -j $(WORKERS) -q -n -W --keep-going -b html docs docs/_build/html

wheel: $(VENV)/.test ## build wheel and sdist, install the wheel in a clean environment and import it
	rm -rf dist .venv-wheel
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --upgrade pip
	.venv-wheel/bin/python -m pip install dist/*.whl
	cd dist && ../.venv-wheel/bin/python -I ../.ci/check_wheel.py

clean: ## remove environments, builds and caches; results in runs/ stay
	rm -rf .venv .venv-oldest .venv-wheel build dist docs/_build docs/repository .hypothesis .pytest_cache .ruff_cache
	find jaxfwi tests experiments docs -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment, made once; one set of packages (an extra of pyproject.toml), installed anew when that file changes.
$(VENV)/.python: $(ANEW)
	@python=$$(sh .ci/find_python.sh newest "$(PYTHON)") || exit 1; \
	echo "Setting up $(VENV) with $$python"; \
	"$$python" -m venv --clear $(VENV) && \
	$(BIN)/python -m pip install --upgrade pip && \
	echo "$$python" > $@

$(VENV)/.experiments $(VENV)/.test $(VENV)/.docs: $(VENV)/.%: pyproject.toml $(VENV)/.python
	$(BIN)/python -m pip install --editable ".[$*]"
	@touch $@
