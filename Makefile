# Everything a user needs: `make demo`, `make test`, `make up`, `make down`. Each sets up what it needs first.
# The Python that the locks were made with, or the other one they fit; one that only seems to be there is passed over.
FITS := import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3 python,$(shell $(name) -c '$(FITS)' 2>/dev/null && echo $(name))))
NO_PYTHON := error: Python 3.11 or 3.12 with venv is needed (on Debian: apt-get install python3 python3-venv), or say where: make PYTHON=/path/to/python3.12
VENV := .venv
BIN := $(VENV)/bin
LOCK ?= infra/locks/cpu.txt
STAMP := $(VENV)/.installed
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: demo annotate test drills up down repro figures lint proof bench lock setup
.DEFAULT_GOAL := demo

demo: setup  ## the whole loop on real data
	atelier demo

annotate: setup  ## label in the browser: starts Label Studio, or uses that at annotation.url, with the first batch in it
	dvc repro split@image
	atelier label start

test: setup  ## the whole test suite, three files at a time: it waits for servers more than it computes
	OMP_NUM_THREADS=1 pytest -n 3 --dist loadfile

drills: setup  ## what proves the product and costs more than the suite should; run before a release, not by CI
	pytest --timeout 1200 -o python_files='drill_*.py'

up: setup  ## leave the stack running
	atelier up

down:  ## stop it
	atelier down

repro: setup  ## bring every artifact up to date
	dvc repro

figures: setup  ## the tables of figures in README and docs, from metrics/
	python -m infra.figures

lint: setup  ## style, types, the import rule and known vulnerabilities of what the locks hold
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	python infra/locks/audit.py

bench: setup  ## one benchmark by name, `make bench NAME=drift`; without a name: all names
	python -m tests.bench $(NAME)

proof: setup  ## unattended: drift, labels, retraining, trial, recovery; then a bad model that goes back by itself
	atelier proof

lock: setup  ## resolve pyproject.toml again into infra/locks
	python infra/locks/lock.py

setup: $(STAMP)
	@python -m components.checkout

# Installers first, then torch: the CPU build where pip is offered it, else PyPI's CUDA build with its libraries.
# Then the lock. Nothing is resolved, every file's digest is checked, and what is built is built with locked tools.
# Python compiles a module when it is first imported: pip would take half of its time to compile all there are.
LOCKS := infra/locks
PIP_INSTALL := pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-compile
$(STAMP): $(LOCK) $(LOCKS)/build.txt $(LOCKS)/torch.txt $(LOCKS)/torch-cpu.txt $(LOCKS)/cuda.txt pyproject.toml
	@$(or $(PYTHON),false) -c '$(FITS)' 2>/dev/null || { echo "$(NO_PYTHON)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --require-hashes -r $(LOCKS)/build.txt
	$(if $(findstring gpu,$(LOCK)),false,$(PIP_INSTALL) --require-hashes -r $(LOCKS)/torch-cpu.txt 2>/dev/null) || \
		$(PIP_INSTALL) --require-hashes -r $(LOCKS)/torch.txt -r $(LOCKS)/cuda.txt
	$(PIP_INSTALL) --require-hashes -r $(LOCK)
	$(PIP_INSTALL) --editable .
	python -m components.preflight
	touch $(STAMP)
