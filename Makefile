# make quickstart: train both stages of the mini configuration, export, evaluate
# make test:       everything that CI checks
# make course:     run the chapters of docs/course and write their notebooks
# make dist:       sdist and wheel in dist/
# make site:       docs, course and API as web pages in site/
# make web:        the page that runs the codec in a browser, in web/dist (needs npm)
# make demo-artifacts: what is made from the weights of the package's codecs: recipes/Demo/README.md
# All install into their own environment, .venv, the versions in constraints.txt.

PYTHON ?= python3
# On Linux the default build of PyTorch has 5.9 GB of CUDA. Without an NVIDIA GPU the small build
# is taken from PyTorch's own index; TORCH_INDEX= takes the default one.
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)
# What could not be downloaded: in CI, tests skip without these packages only (conftest.py).
UNAVAILABLE ?=
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
JUDGES := whisper-base whisper-tiny distillmos dnsmos pesq stoi

.PHONY: quickstart test lint ruff mypy yamllint pylint course demo-artifacts dist site web venv clean

quickstart: venv
	$(BIN)/python recipes/LibriSpeech/quickstart.py

# Processors without AVX-512 add numbers in another order. Tests of numbers run with their
# instructions too, so that no test passes on one kind of processor only. Left out are tests of
# files, names, processes and text: nothing in them depends on the instructions.
NUMERIC := $(addprefix tests/unit/,nn encoders hub long_audio metrics streaming) $(wildcard tests/unit/test_*.py)
OTHERS := $(addprefix tests/unit/,encoders/test_model_config.py hub/test_checkpoints.py \
	hub/test_fingerprint.py hub/test_weights.py metrics/test_transcripts.py test_codec_base.py \
	test_files.py test_imports.py test_packages.py test_parameter_counts.py test_processes.py \
	test_progress.py)
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
	FBGEMM_ENABLE_INSTRUCTIONS=AVX2

# Some containers forbid Python to keep compiled modules. Then each process that a test starts
# compiles the package again.
PYTEST = UNAVAILABLE="$(UNAVAILABLE) $$(cat $(VENV)/unavailable 2>/dev/null)" OMP_NUM_THREADS=1 \
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n $(JOBS)

# the page for browsers is built, and tested, where npm is installed
WEB := $(if $(shell command -v npm),web)

test: venv
	$(MAKE) --jobs=$(JOBS) lint $(WEB)
	@$(if $(WEB),,echo "npm is not installed: web/ is not built and not tested")
	$(PYTEST)
	$(AVX2) $(PYTEST) $(filter-out $(OTHERS),$(NUMERIC)) $(OTHERS:%=--ignore=%)

# one target each, so that two run at the same time in `make test`
lint: ruff mypy yamllint pylint

ruff: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

mypy: venv
	$(BIN)/mypy

yamllint: venv
	$(BIN)/yamllint .

pylint: venv
	$(BIN)/pylint focalcodec recipes benchmarks

# 15 minutes on one core; checks the figures of all chapters
course: venv
	OMP_NUM_THREADS=1 $(BIN)/python docs/course/render.py

# figures, listening page, notebooks and the browser's page
SHIPPED = $(shell $(BIN)/python -c "from focalcodec.hub import shipped; print(*shipped())")
EVALUATE = cd recipes/Demo && OMP_NUM_THREADS=1 $(CURDIR)/$(BIN)/python evaluate.py \
	hparams/resynthesis_demo.yaml --jobs $(JOBS) --output_folder
comma := ,
demo-artifacts: venv
	for name in $(SHIPPED); do \
		($(EVALUATE) results/shipped/$$name --codec $$name) || exit 1; \
		$(BIN)/python docs/demo/publish.py --name $$name \
			--evaluation recipes/Demo/results/shipped/$$name || exit 1; \
	done
	$(EVALUATE) results/shipped/listen --speed_clips 0 --sets "[{name: test-real, kind: real}]" \
		--codecs "[original, $(SHIPPED:%=%$(comma)) opus:6, codec2:1300]"
	cp recipes/Demo/results/shipped/listen/report.html docs/demo/listen.html
	$(MAKE) course $(WEB)

# sdist and wheel of a release
dist: venv
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

# the docs, the course and the API as web pages; links are checked
site: venv $(WEB)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/ is written; to read it: $(BIN)/python -m http.server -d site, then http://localhost:8000"

web: venv web/node_modules/.package-lock.json
	$(BIN)/python web/prepare.py web/public
	cd web && npm run --silent check && npm run --silent build
	@echo "web/dist is written; to open it: $(BIN)/python -m http.server -d web/dist, then http://localhost:8000"

web/node_modules/.package-lock.json: web/package-lock.json
	cd web && npm ci --silent

venv: $(VENV)/installed

$(VENV)/installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	: >$(VENV)/unavailable
	$(BIN)/pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[all]"
	for judge in $(JUDGES); do \
		$(BIN)/pip install --quiet -c constraints.txt -e ".[$$judge]" \
			|| { echo "$$judge can not be installed: its scores will be missing"; \
			echo $$judge >>$(VENV)/unavailable; }; \
	done
	# without its dependencies: they record from a microphone and need a compiler
	$(BIN)/pip install --quiet -c constraints.txt --no-deps Resemblyzer \
		|| { echo "Resemblyzer can not be installed: its scores will be missing"; \
			echo Resemblyzer >>$(VENV)/unavailable; }
	# without those of its dependencies that other backends and language models need
	$(BIN)/pip install --quiet -c constraints.txt --no-deps executorch torchao \
		|| { echo "executorch can not be installed: its export is not tested"; \
			echo executorch >>$(VENV)/unavailable; }
	touch $@

clean:
	rm -rf $(VENV) results build dist site web/dist web/public web/node_modules *.egg-info
