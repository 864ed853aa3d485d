# VENV and PYTHON may be given: make demo VENV=/tmp/venv PYTHON=python3.12
VENV ?= .venv
PYTHON ?=
QUESTION ?= In one sentence: why is the sky blue?

BIN := $(VENV)/bin
DEMO_STAMP := $(VENV)/.installed-demo
TEST_STAMP := $(VENV)/.installed-test

.PHONY: help demo test check format venv constraints clean

help:
	@echo "make demo    install, and ask the demo model a question"
	@echo "make test    install with the test tools, and run the tests"
	@echo "make check   run the static checks: format, lint, types, imports"
	@echo "make format  format the code"
	@echo "make venv    install with the test tools into $(VENV)"
	@echo "make clean   remove $(VENV)"

demo: $(DEMO_STAMP)
	@$(BIN)/localllm run --stats "$(QUESTION)"

test: $(TEST_STAMP)
	@$(BIN)/python -m pytest

check: $(TEST_STAMP)
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo

format: $(TEST_STAMP)
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

venv: $(TEST_STAMP)

$(DEMO_STAMP): pyproject.toml constraints.txt
	@PYTHON="$(PYTHON)" sh scripts/install "$(VENV)" demo
	@touch $@

# What the tests need includes what the demo needs.
$(TEST_STAMP): pyproject.toml constraints.txt
	@PYTHON="$(PYTHON)" sh scripts/install "$(VENV)" demo,test
	@touch $(DEMO_STAMP) $@

# Writes constraints.txt anew from what a fresh environment gets today.
constraints:
	@rm -rf "$(VENV)-constraints" && : > constraints.txt
	@PYTHON="$(PYTHON)" sh scripts/install "$(VENV)-constraints" demo,test,convert-test
	@{ echo "# The exact versions that are developed and tested with. To renew: make constraints"; \
	   "$(VENV)-constraints/bin/pip" freeze --exclude-editable | grep -Ev '^(localllm|torch)( |=|$$)'; } > constraints.new
	@mv constraints.new constraints.txt && rm -rf "$(VENV)-constraints"

clean:
	@rm -rf "$(VENV)"
