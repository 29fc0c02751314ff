# make quickstart: train both stages of the mini configuration, export, resynthesise
# make test:       everything CI checks
# Both make their own environment in .venv, from the versions in constraints.txt.
#
# Without a GPU, PyTorch's own index has a small build (the default one brings several GB of CUDA):
#     make quickstart TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: quickstart test lint venv clean

quickstart: venv
	$(BIN)/python recipes/LibriSpeech/quickstart.py

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint .

venv: $(VENV)/installed

$(VENV)/installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[all]"
	$(BIN)/pip install --quiet -c constraints.txt -e ".[judges]" \
		|| echo "Whisper base is not to be had: there will be no word error rates"
	touch $@

clean:
	rm -rf $(VENV) results build dist *.egg-info
