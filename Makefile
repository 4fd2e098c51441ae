# make scenarios   everything that is missing, then the executable FAQ
# make test        the same set-up, then the harness's own tests and the scenarios
# make unit        the tests that need no engine
PYTHON ?= python3
POSTFIX ?= 3.10
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete

.PHONY: setup scenarios test unit lint withhold bench durations answers lock images-save images-load ci-local clean

setup: $(STAMP)
	@$(BIN)/maillab images --make --postfix $(POSTFIX)

$(STAMP): requirements.lock pyproject.toml setup.sh
	@PYTHON=$(PYTHON) sh setup.sh $(VENV)
	@touch $@

scenarios: setup
	$(BIN)/pytest scenarios -n auto --postfix $(POSTFIX)

test: setup lint
	$(BIN)/pytest tests scenarios -n auto --postfix $(POSTFIX)

unit: $(STAMP)
	$(BIN)/pytest tests/unit -n auto

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --pedantic --quiet .github/workflows
	$(BIN)/shellcheck .ci/run setup.sh
	$(BIN)/shellcheck -x --shell=bash images/*/*.sh images/inside/*/*.sh tests/bench/*.sh
	$(BIN)/python docs/generate.py --check

withhold: setup
	$(BIN)/pytest scenarios -n auto --postfix $(POSTFIX) --withhold cures
	$(BIN)/pytest scenarios -n auto --postfix $(POSTFIX) --withhold faults
	$(BIN)/pytest scenarios -n auto --postfix $(POSTFIX) --withhold witnesses

bench: setup
	PYTHONPATH=tests $(BIN)/python -m bench --postfix $(POSTFIX)

# After a whole run, from its results: what --shard balances by.
durations: $(STAMP)
	$(BIN)/maillab faq --durations scenarios/durations.json

# After a run of the scenarios whose cures or symptoms have changed: what "maillab faq" shows of
# them. After "make withhold" it also knows which scenarios discriminate.
answers: $(STAMP)
	$(BIN)/maillab faq --answers scenarios/answers.json

# After a change of the dependencies in pyproject.toml.
lock: $(STAMP)
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --group dev pyproject.toml -o requirements.lock --quiet

# Images as one file, for a cache between machines.
images-save: $(STAMP)
	test -f images.tar || docker save -o images.tar $$($(BIN)/maillab images --json --postfix $(POSTFIX) \
	  | $(BIN)/python -c 'import json, sys; print(*(i["tag"] for i in json.load(sys.stdin) if i["state"] == "present"))')

images-load:
	test ! -f images.tar || docker load -q -i images.tar

# Every "run:" step of the workflows, here; see --help for which.
ci-local: $(STAMP)
	$(BIN)/python tests/ci_local.py

clean:
	rm -rf $(VENV) runs
