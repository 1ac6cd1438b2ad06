# demo and test are the two commands to set up with: each works alone on a fresh clone.

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ifneq ($(BIN) $(STAMP),$(VENV)/bin $(VENV)/.installed)
$(error BIN and STAMP follow from VENV, so that what is stamped is what was installed: set VENV alone)
endif
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo $$p; break; }; done)
FUZZ_SECONDS ?= 600
FUZZ_JOBS    ?= 1
TEST_JOBS    ?= 2
CODE   := palm_torch examples benchmarks tests tools

.DEFAULT_GOAL := help
.PHONY: mutate help demo test check vectors fuzz thorough bench docs clean vectors-named

help:
	@echo "make demo      train, seal, verify, then watch six tamperings being rejected"
	@echo "make test      the whole test suite, TEST_JOBS=2 files at a time"
	@echo "make check     lint, types, floors, tests with coverage, documents (what CI runs)"
	@echo "make vectors   write the golden files again; fails when that changes one of them"
	@echo "make fuzz      every decoder under coverage-guided fuzzing, FUZZ_SECONDS=600 each, FUZZ_JOBS=1 at a time"
	@echo "make thorough  the property and negative tests with ten to twenty times as many examples"
	@echo "make mutate    mutation testing of what every verdict rests on (a quarter of an hour)"
	@echo "make bench     every benchmark, each figure beside its bar"
	@echo "make docs      links, anchors and Python blocks of the documents"
	@echo "make clean     remove caches and build outputs ($(VENV) stays)"

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "palm-torch needs Python 3.11 or newer with the venv module:" \
		"none found as python3.11, python3 … python3.14; install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing palm-torch[torch,dev] into $(VENV) (the first time takes some minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/palm-torch demo

test: $(STAMP)
	PALM_TORCH_VECTORS="$${PALM_TORCH_VECTORS:-none}" $(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS)

check: vectors-named $(STAMP)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_docs.py
	$(BIN)/python tools/attack_coverage.py
	$(BIN)/python tools/fuzz.py --seconds 2 --jobs 2 --fresh
	rm -f .coverage .coverage.*
	@$(MAKE) --no-print-directory test PYTEST_FLAGS="--cov --cov-report="
	$(BIN)/coverage report
	$(BIN)/coverage json -q -o build/coverage.json
	$(BIN)/python tools/check_coverage.py build/coverage.json
	@cat .pytest_cache/d/palm-torch/vectors

vectors-named:
	@test -n "$$PALM_TORCH_VECTORS" || { echo "PALM_TORCH_VECTORS is unset: name the folder with the" \
		"third-party vectors, or say none: PALM_TORCH_VECTORS=none make check" >&2; exit 1; }

vectors: $(STAMP)
	@set -e; for maker in tests/vectors/make_*.py; do echo "$$maker"; $(BIN)/python "$$maker"; done
	git diff --exit-code --stat -- tests/vectors

fuzz: $(STAMP)
	$(BIN)/python tools/fuzz.py --seconds $(FUZZ_SECONDS) --jobs $(FUZZ_JOBS)

thorough: $(STAMP)
	HYPOTHESIS_PROFILE=thorough PALM_TORCH_THOROUGH=1 PALM_TORCH_VECTORS="$${PALM_TORCH_VECTORS:-none}" \
		$(BIN)/python -m pytest --timeout=3600 tests/property tests/negative

mutate: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutate]'
	$(BIN)/python tools/mutate.py

bench: $(STAMP)
	@status=0; for bench in benchmarks/*.py; do echo "== $$bench"; $(BIN)/python "$$bench" || status=1; done; exit $$status

docs: $(STAMP)
	$(BIN)/python tools/check_docs.py

clean:
	rm -rf build dist demo-out .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
