# make scenarios   everything that is missing, then the executable FAQ
# make test        the same set-up, then the harness's own tests and the scenarios
PYTHON ?= python3
POSTFIX ?= 3.10
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete

.PHONY: setup scenarios test lint withhold bench lock clean

setup: $(STAMP)
	@$(BIN)/maillab images --make --postfix $(POSTFIX)

$(STAMP): requirements.lock pyproject.toml setup.sh
	@PYTHON=$(PYTHON) sh setup.sh $(VENV)
	@touch $@

scenarios: setup
	$(BIN)/pytest scenarios --postfix $(POSTFIX)

test: setup lint
	$(BIN)/pytest tests scenarios --postfix $(POSTFIX)

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

withhold: setup
	$(BIN)/pytest scenarios --postfix $(POSTFIX) --withhold cures
	$(BIN)/pytest scenarios --postfix $(POSTFIX) --withhold faults

bench: setup
	PYTHONPATH=tests $(BIN)/python -m bench --postfix $(POSTFIX)

# After a change of the dependencies in pyproject.toml.
lock: $(STAMP)
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --group dev pyproject.toml -o requirements.lock --quiet

clean:
	rm -rf $(VENV) runs
