# Everything a developer does. `make help` lists it. Each target makes what it needs, and does nothing twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= auto
MINUTES ?= 1
COUNT ?= 200
STEPS ?= 10000000
# A worker that is done takes over what another has not begun: neighbours, which share what a file's tests make, stay together.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
PATIENT := --timeout 3600 -o faulthandler_timeout=4000
C_FILES = $(shell find c_src tests benchmarks examples -name '*.[ch]' -o -name '*.cpp' 2>/dev/null)
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow test-recipes check format bench asan fuzz sanitizers realtime mutants soak qemu coverage wheel clean distclean

help: ## list what make can do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
		while IFS='	' read -r target text; do printf '  make %-12s  %s\n' "$$target" "$$text"; done

demo: $(VENV)/.built ## train a GRU, export, compile, stream, prove, time: into build/demo/
	$(BIN)/streamgru demo -o build/demo

test: $(VENV)/.built ## run the tests
	$(PYTEST) -m "not slow and not recipe" $(ARGS)

test-slow: $(VENV)/.built ## run the tests that take longer
	$(PYTEST) $(PATIENT) -m slow $(ARGS) || { code=$$?; [ $$code -eq 5 ] && echo "no slow tests"; }

test-recipes: $(VENV)/.built ## train every recipe until it meets its criterion: many minutes
	$(PYTEST) $(PATIENT) -m recipe $(ARGS)

check: $(VENV)/.tools $(VENV)/.built ## lint and types: ruff, mypy, pyright, clang-format, cppcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)
	@command -v cppcheck >/dev/null || { echo "cppcheck is missing: apt-get install cppcheck"; exit 1; }
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
		--suppress=missingIncludeSystem --suppress=invalidPointerCast -I c_src c_src

format: $(VENV)/.tools ## rewrite Python and C in the project's format
	$(BIN)/ruff check --fix-only --exit-zero .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES)

bench: $(VENV)/.built ## time all sizes and models beside their peers, into build/bench/; QUICK=1: two minutes, not ten
	$(BIN)/python benchmarks/suite.py $(if $(QUICK),--quick) $(ARGS)

asan: ## run the C core's tests under the address and undefined-behaviour sanitizers
	tests/asan.sh

fuzz: $(VENV)/.built ## fuzz images, saved states, the kernels and the ONNX reader, MINUTES=1 each
	PYTHON=$(BIN)/python tests/fuzz.sh $(MINUTES)

sanitizers: ## run the C core's tests under clang's MemorySanitizer and under valgrind
	tests/sanitizers.sh

realtime: $(VENV)/.built ## prove that a step makes no system call, allocation or lock; its stack and its times
	PYTHON=$(BIN)/python tests/realtime.sh

mutants: $(VENV)/.built ## count which of COUNT=200 slips in the C core, and in Python's border, their tests notice: hours
	$(BIN)/python tests/mutants/core.py --count $(COUNT)
	@.ci/install.sh $(BIN)/python -c constraints.txt cosmic-ray
	$(BIN)/python tests/mutants/border.py --count $(COUNT)

soak: $(VENV)/.built ## run STEPS=10000000 steps with saves, other processes and instruction sets in between
	$(BIN)/python tests/soak.py $(STEPS)

qemu: ## run the C core's tests on emulated aarch64, armv7, riscv64 and older x86-64
	tests/qemu.sh

coverage: $(VENV)/.tools $(VENV)/.built ## run the tests and list the C and Python lines they miss
	tests/coverage.sh
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not slow and not recipe" $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

wheel: $(VENV)/.tools $(VENV)/.built ## build the wheel into dist/ and audit it
	rm -rf build/lib* build/bdist* dist
	$(BIN)/python -m pip wheel -q --no-deps --no-build-isolation -w dist .
	$(BIN)/abi3audit --strict dist/*.whl
	$(BIN)/auditwheel show dist/*.whl

clean: ## remove what was built, keep the environment
	rm -rf build dist *.egg-info runtime/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
	rm -f runtime/streamgru/*.so $(VENV)/.built
	find runtime export tests c_src -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove the environment too
	rm -rf $(VENV)

# The environment. A stamp is newer than all it was made from.

$(VENV)/.installed: pyproject.toml setup.py constraints.txt c_src/build_ffi.py
	@echo "== making $(VENV), once: streamgru, torch (200 MB), onnx, onnxruntime and some 40 more; some minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@.ci/install.sh $(BIN)/python -c constraints.txt setuptools wheel cffi numpy
	@.ci/install.sh $(BIN)/python -c constraints.txt --no-build-isolation -e '.[export,test]'
	@touch $@

$(VENV)/.built: $(VENV)/.installed $(shell find c_src -type f -not -path '*/__pycache__/*' 2>/dev/null)
	@echo "== building the extension"
	@$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

$(VENV)/.tools: $(VENV)/.installed
	@echo "== installing the tools of make check, coverage and wheel: ruff, mypy, clang-format and some 30 more"
	@.ci/install.sh $(BIN)/python -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@
