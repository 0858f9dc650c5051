VENV ?= .venv
ENV ?= LunarLander-v3
ARGS ?=
PYTHON := $(VENV)/bin/python
SOURCES := kd_agent envs scripts tests benchmarks examples

.PHONY: install distill test check format

install: $(VENV)/.installed

distill: $(VENV)/.installed
	$(PYTHON) scripts/distill_policy.py --env $(ENV) $(ARGS)

test: $(VENV)/.installed-dev
	$(PYTHON) -m pytest -q -n 2 --dist loadfile $(ARGS)

check: $(VENV)/.installed-dev
	$(PYTHON) -m ruff format --check $(SOURCES)
	$(PYTHON) -m ruff check $(SOURCES)
	$(PYTHON) -m mypy

format: $(VENV)/.installed-dev
	$(PYTHON) -m ruff format $(SOURCES)
	$(PYTHON) -m ruff check --fix $(SOURCES)

$(VENV)/bin/pip:
	python3 -m venv $(VENV)

$(VENV)/.installed: pyproject.toml setup.py constraints.txt | $(VENV)/bin/pip
	$(VENV)/bin/pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml setup.py constraints.txt | $(VENV)/bin/pip
	$(VENV)/bin/pip install -q -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed
