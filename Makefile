# Each target installs what it needs into a virtual environment of its own, once.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo results test fuzz lint docs

demo: $(READY)
	$(BIN)/python tools/reproduce.py --dataset digit_scenes --seeds 1 --output output/demo

results: $(READY)
	$(BIN)/python tools/reproduce.py --dataset digit_scenes --seeds 3

# One thread each: processes that share cores wait for each other's OpenMP threads.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

fuzz: $(READY)
	PYTHONPATH=tests $(BIN)/python -m fuzz

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

# The variable hides a note on the future of MkDocs.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# pip 25.3: 23.2 fails to build Detectron2's sdist, 26.3 rejects it (INSTALL.md).
$(READY): requirements.txt requirements-detectron2.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q pip==25.3 setuptools==84.2.1 wheel==0.48.0
	$(BIN)/python -m pip install -q -r requirements.txt
	$(BIN)/python -m pip install -q --no-build-isolation --no-deps --require-hashes -r requirements-detectron2.txt
	$(BIN)/python -m pip install -q --no-build-isolation --no-deps -e .
	touch $(READY)
