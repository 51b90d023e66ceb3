# Two commands do everything on a fresh machine: `make demo` and `make test`.
# PYTHON: the interpreter to build environments with (3.11 or newer).
PYTHON ?= python3
# DATA: a folder of WFDB records, for `make demo`, `make train` and `make bench`.
DATA ?=
# MODEL: what `make train` makes of it: ecg-beat, sepsis-risk or hypotension.
MODEL ?= ecg-beat
# WORKERS: processes that run the tests. Most of their time is waiting for processes and pages, so more than cores.
WORKERS ?= 4
# FOR: seconds after which `make demo` ends by itself; without it, Ctrl-C ends it.
FOR ?=

DEVICE := build/device
SERVER := build/server
DEV := .venv
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint bench train soak fuzz docs clean

demo: $(DEVICE)/.stamp $(SERVER)/.stamp
	$(DEVICE)/bin/edgeward demo --server-python $(SERVER)/bin/python $(if $(FOR),--for $(FOR)) $(if $(DATA),--data $(DATA))

test: $(DEV)/.stamp lint
	$(DEV)/bin/python -m pytest -q -n $(WORKERS) --dist worksteal

lint: $(DEV)/.stamp
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports --no-cache

bench: $(DEV)/.stamp
	$(DEV)/bin/python bench/engine.py
	$(DEV)/bin/python bench/restart.py
	$(DEV)/bin/python bench/beds.py
	$(DEV)/bin/python bench/hl7_in.py
	$(DEV)/bin/python bench/thresholds.py
	$(DEV)/bin/python bench/ward.py
	$(DEV)/bin/python bench/ward.py --shipped
	$(DEV)/bin/python bench/swap.py
	$(DEV)/bin/python bench/fleet_checkin.py
	$(DEV)/bin/python bench/fleet_sim.py
	$(DEV)/bin/python bench/rollout_blast.py
	$(DEV)/bin/python bench/device_size.py
	$(if $(DATA),$(DEV)/bin/python bench/qrs.py $(DATA))
	$(if $(DATA),$(DEV)/bin/python bench/precision.py $(DATA))

train: $(DEV)/.stamp
	@test -n "$(DATA)" || { echo "make train needs DATA=<what docs/workshop.md names for MODEL>" >&2; exit 2; }
	$(DEV)/bin/edgeward build $(MODEL) --data $(DATA)

soak: $(DEV)/.stamp
	$(DEV)/bin/python bench/soak.py
	EDGEWARD_SOAK=1 $(DEV)/bin/python -m pytest -q tests/scenario/test_ecg_update.py -k "other and windows"
	$(DEV)/bin/python bench/power.py --stride 7

# A million mutations of HL7 messages, each held to what a device promises; RUNS changes how many.
RUNS ?= 1000000
fuzz: $(DEV)/.stamp
	PYTHONPATH=tests/fuzz $(DEV)/bin/python tests/fuzz/hl7_fuzz.py --runs $(RUNS)

docs: $(DEV)/.stamp
	$(DEV)/bin/python bench/cli_reference.py > docs/cli.md

clean:
	rm -rf build $(DEV)

# A device's environment: the core dependencies and nothing else, so that the demo shows what a device installs.
$(DEVICE)/.stamp: pyproject.toml
	$(PYTHON) -m venv $(DEVICE)
	$(DEVICE)/bin/pip install --quiet --editable .
	touch $@

# The fleet server's, beside it: a device installs nothing of a server.
$(SERVER)/.stamp: pyproject.toml
	$(PYTHON) -m venv $(SERVER)
	$(SERVER)/bin/pip install --quiet --editable '.[fleet]'
	touch $@

$(DEV)/.stamp: pyproject.toml
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/pip install --quiet --editable '.[workshop,fleet,sdc,dev]'
	touch $@
