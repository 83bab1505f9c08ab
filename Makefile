# `make demo` shows Penstock at work, `make test` checks everything. Both create .venv themselves.
# Progress goes to standard error, so that programs can read the output of `make demo`.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

# Debian and Ubuntu optimize without the flag; they are known by the folder of their wheels.
export ASKS_FOR_PGO := import sys, sysconfig as s; a = s.get_config_var("CONFIG_ARGS") or ""; sys.exit(not ("--enable-optimizations" in a or "/usr/share/python-wheels" in a))

# The demo needs fewer packages than the tests, and those of agents' frameworks only where it shows
# one of them; if all are installed already, it uses those.
DEMO_EXTRA := $(if $(filter langgraph openai opentelemetry,$(subst =, ,$(ARGS))),examples,embedded)
DEMO_READY := $(if $(wildcard .venv/.dev),.venv/.dev,.venv/.$(DEMO_EXTRA))

# uv installs in a tenth of pip's time. It does not read pip's configuration, so where that names
# another source of packages, and where uv cannot (its own settings, certificates), pip does it.
PIP_ONLY := ^[^=]*(index|find-links|proxy)

# $(call install,extra): create .venv with the first suitable Python that was built with PGO, or else
# the first suitable one, and install into it. A build without PGO takes a tenth more CPU.
define install
	@set -eu; \
	if [ ! -x $(BIN)/python ]; then \
	  for python in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    found=$${found:-$$python}; \
	    "$$python" -c 'import venv, ensurepip' 2>/dev/null || continue; \
	    usable=$${usable:-$$python}; \
	    if "$$python" -c "$$ASKS_FOR_PGO"; then usable=$$python; how="with PGO"; break; fi; \
	  done; \
	  found=$${usable:-$${found:-}}; \
	  if [ -z "$${found:-}" ]; then \
	    echo "Penstock needs Python 3.11 or newer as python3 or python3.11 ... on the PATH." >&2; \
	    echo "Found: $$(python3 --version 2>&1 || echo none)" >&2; \
	    exit 1; \
	  fi; \
	  if ! "$$found" -c 'import venv, ensurepip' 2>/dev/null; then \
	    echo "$$found cannot create virtual environments. On Debian and Ubuntu:" >&2; \
	    echo "  apt-get install python3-venv" >&2; \
	    exit 1; \
	  fi; \
	  echo "creating .venv with $$("$$found" --version), built $${how:-without PGO}: $$found" >&2; \
	  "$$found" -m venv .venv >&2; \
	fi; \
	echo "installing penstock[$(1)]" >&2; \
	if $(BIN)/python -m pip config list | grep -Eq '$(PIP_ONLY)' || ! { \
	  $(BIN)/python -m pip install --quiet uv -c constraints.txt \
	  && $(BIN)/uv --system-certs pip install --quiet --python $(BIN)/python \
	    -e '.[$(1)]' -c constraints.txt; } >/dev/null 2>&1; then \
	  $(BIN)/python -m pip install --quiet --no-compile -e '.[$(1)]' -c constraints.txt >&2; \
	fi; \
	touch $@
endef

.venv/.dev: pyproject.toml constraints.txt
	$(call install,dev)

.venv/.bench: .venv/.dev
	$(call install,bench)

.venv/.docs: .venv/.dev
	$(call install,docs)

.venv/.embedded: pyproject.toml constraints.txt
	$(call install,embedded)

.venv/.examples: pyproject.toml constraints.txt
	$(call install,examples)

# What the tests need beside wheels, where apt and root allow; elsewhere the tests say what they skip.
# They start servers of their own, so that a package must not start its service meanwhile.
# $(call package,program,packages): install them unless the program is there.
define package
	@if ! ls $(1) >/dev/null 2>&1 && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  echo "installing $(2)" >&2; \
	  if [ ! -e /usr/sbin/policy-rc.d ]; then \
	    trap 'rm -f /usr/sbin/policy-rc.d' EXIT INT TERM; \
	    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; \
	    chmod +x /usr/sbin/policy-rc.d; \
	  fi; \
	  { apt-get install -qq $(2) || { apt-get update -qq \
	    && apt-get install -qq $(2); }; } >/dev/null 2>&1 </dev/null || true; \
	fi
	@touch $@
endef

.venv/.rabbitmq: .venv/.dev
	$(call package,/usr/lib/rabbitmq/bin/rabbitmq-server,rabbitmq-server)

# One that speaks German: the wheel's has no translations.
.venv/.german: .venv/.dev | .venv/.rabbitmq
	$(call package,/usr/lib/postgresql/*/bin/postgres,postgresql locales)

# A clock that is ahead, for the end of a month.
.venv/.clock: .venv/.dev
	$(call package,/usr/lib/*/faketime/libfaketime.so.1,libfaketime)

# Modules are compiled once, not by each of the hundreds of processes of the tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint types imports test-faults bench docs clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: $(DEMO_READY) ## watch Penstock work; ARGS="--seconds 20" or "--agents langgraph" pass arguments
	@$(BIN)/penstock demo $(ARGS)

# The example programs in other languages, where npm and go are there.
.venv/.languages: .venv/.dev $(wildcard examples/javascript/* examples/go/*)
	@$(BIN)/python -m tests.support.languages
	@touch $@

# Two at a time: what checks types, and what fetches programs, leave one core idle each.
test: .venv/.dev ## everything a change must pass; ARGS go to pytest
	@$(MAKE) --no-print-directory -j 2 types lint imports .venv/.languages .venv/.rabbitmq .venv/.german
	@$(BIN)/python -m pytest -n 5 --dist worksteal $(ARGS)

lint: .venv/.dev ## ruff: rules and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

TYPED = penstock tests $(wildcard benchmarks/*.py)

# Of its own processes mypy loses one now and then on a machine that is busy (2: not a type's fault).
types: .venv/.dev ## mypy, strict
	@$(BIN)/mypy --num-workers auto $(TYPED) \
	  || { [ $$? -eq 2 ] && echo "mypy failed itself: once more, in one process" >&2 \
	  && $(BIN)/mypy $(TYPED); }

imports: .venv/.dev ## the import rules
	@$(BIN)/lint-imports --no-cache

test-faults: .venv/.docs .venv/.rabbitmq .venv/.clock ## what takes long: servers killed, stopped, starved
	@$(BIN)/python -m pytest -m faults $(ARGS)

bench: .venv/.bench .venv/.rabbitmq ## benchmarks; results include date, machine and commit
	@$(BIN)/python -m benchmarks $(ARGS)

docs: .venv/.docs ## build the documentation as a site with search, in build/docs/site
	@$(BIN)/python -m tests.docs.site

clean: ## remove everything that was built or cached, including .venv
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find penstock worker schemas tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + \
	  2>/dev/null || true
