# Every target sets itself up: a virtual environment in .venv and what it needs in it.
#
#   make demo                          classify drawn pictures with both models, on this machine
#   make demo IMAGES="a.png b.jpeg"    your own pictures (TASK=xray, or TASK=mri)
#   make test                          the tests, which must pass through 95 % of the SDK's branches and lines
#   make serve                         the server, until Ctrl-C
#   make train TASK=xray               split, fit, evaluate, export (RECIPE=scratch, DATA=folder)
#   make bench                         served against the raw runtime; rewrites docs/BENCHMARKS.md and SIZING.md
#   make loadtest                      a short Locust run, with an HTML report
#   make lint                          ruff and mypy

PYTHON ?= python3
VENV ?= .venv
TASK ?= xray
RECIPE ?= scratch
IMAGES ?=
DATA ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
QUIET_TENSORFLOW := TF_CPP_MIN_LOG_LEVEL=2
# The gate stands here and not in pyproject.toml, so that a part of the tests may be run with --cov alone.
COVERAGE := --cov=client/densescan --cov-branch --cov-report=term:skip-covered --cov-fail-under=95

.DEFAULT_GOAL := help
.PHONY: help demo test serve train bench loadtest lint format clean

help:
	@sed -n '3,11s/^#//p' Makefile

demo: $(VENV)/.serve
	@$(BIN)/python -m server.demo --task $(if $(IMAGES),$(TASK),all) $(IMAGES)

serve: $(VENV)/.serve
	@$(BIN)/python -m server

# Two at a time: tests/training computes, on one core and after all else, and the others mostly wait for servers. What the
# first prints is kept for the end.
test: $(VENV)/.dev
	@export $(QUIET_TENSORFLOW); log=$$(mktemp); \
	nice $(BIN)/python -m pytest -p no:cacheprovider tests/training > $$log 2>&1 & training=$$!; \
	trap 'kill $$training 2> /dev/null; rm -f $$log' EXIT; trap 'exit 130' INT; trap 'exit 143' TERM; \
	$(BIN)/python -m pytest --ignore=tests/training $(COVERAGE); others=$$?; \
	wait $$training; computed=$$?; cat $$log; \
	echo "Exit codes: $$others of these tests, $$computed of tests/training."; \
	[ $$others -eq 0 ] && [ $$computed -eq 0 ]

train: $(VENV)/.train
	$(BIN)/python -m training split --task $(TASK) $(if $(DATA),--data $(DATA))
	$(BIN)/python -m training fit --task $(TASK) --recipe $(RECIPE) $(if $(DATA),--data $(DATA))
	$(BIN)/python -m training evaluate --task $(TASK) --fold test $(if $(DATA),--data $(DATA))
	$(BIN)/python -m training export --task $(TASK) $(if $(DATA),--data $(DATA))

bench: $(VENV)/.loadtest
	@$(BIN)/python -m loadtest.bench --write-docs
	@$(BIN)/python -m loadtest.size --write-docs

loadtest: $(VENV)/.loadtest
	@$(BIN)/python -m loadtest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info client/*.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 12) else \
	"Python %d.%d does not run the embedded server and its tools: they need 3.11 or 3.12. Choose one: make PYTHON=python3.11 ..." % v)'
	@echo "Making a virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/.%: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing densescan[$*] into $(VENV), which takes a minute or two ..."
	@$(PIP) install --constraint constraints.txt --editable ".[$*]"
	@touch $@
