# make quickstart: train both stages of the mini configuration, export, evaluate
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
JUDGES := whisper-base whisper-tiny distillmos dnsmos pesq stoi

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
	$(BIN)/pylint focalcodec recipes benchmarks

venv: $(VENV)/installed

$(VENV)/installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[all]"
	for judge in $(JUDGES); do \
		$(BIN)/pip install --quiet -c constraints.txt -e ".[$$judge]" \
			|| echo "$$judge is not to be had: results are without it"; \
	done
	# its dependencies are for recording from a microphone, and need a compiler
	$(BIN)/pip install --quiet -c constraints.txt --no-deps Resemblyzer \
		|| echo "Resemblyzer is not to be had: results are without it"
	touch $@

clean:
	rm -rf $(VENV) results build dist *.egg-info
