# Everything but bench-gpu runs in an own virtual environment; Python 3.11 or newer is all that must be there.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check --quiet install
# without a GPU the CPU build of torch is taken, so that no CUDA packages are downloaded
HAS_GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo yes)
CONSTRAINTS := $(if $(HAS_GPU),,-c constraints-cpu.txt)
CPU_INDEX := https://download.pytorch.org/whl/cpu

DATA ?= data
ZOO ?= ../zoo
# classifiers of other people, and clones of repositories where they cannot be fetched
REAL ?= ../real
REPOSITORIES ?=

GIVEN = $(if $(wildcard $(DATA)),--data $(DATA)) $(if $(REPOSITORIES),--repositories $(REPOSITORIES))

# models of the BAN paper, and how large: small or full
PAPER ?= ../paper
SCALE ?= small

# of `make bench`: small, large or gpu; a commit whose scans are timed beside those of this one
SIZES ?= small
BESIDE ?=

# of `make paper-zoo`, cpu where it is not given; of `make bench-gpu`: DEVICE=cpu rehearses with little work; OUT is the folder for what was measured
DEVICE ?= cuda
OUT ?=
COMMIT ?=
MINUTES ?= 8

# other detectors that the two examples are shown to
RIVALS := --method Tabor --method FeatureRE --method Unicorn --method MM-BD --method "BAN code" --method "BAN equations"

.PHONY: demo demo-seeds demo-baselines zoo detect real repairs golden null fuzz evidence paper paper-zoo paper-rows matrix check test test-frameworks lint bench bench-gpu clean

demo: $(VENV)/installed ## scan the two examples: a backdoored model (exit 1) and a clean one (exit 0)
	@$(BIN)/banscan examples/backdoored.onnx --clean-dir examples/clean; code=$$?; echo "exit $$code"; test $$code -eq 1
	@$(BIN)/banscan examples/clean.onnx --clean-dir examples/clean; code=$$?; echo "exit $$code"; test $$code -eq 0

demo-seeds: $(VENV)/tested ## both examples at several seeds; finished rows are not computed again
	$(BIN)/python -m bench.detect --zoo examples --images examples/clean --seeds 3 --out bench/results/examples.jsonl
	$(BIN)/python -m bench.evidence --only examples

demo-baselines: $(VENV)/tested ## every other detector on both examples, an hour; finished rows are not computed again
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.baselines --zoo examples --images examples/clean --out bench/results/baselines-examples.jsonl $(RIVALS)
	$(BIN)/python -m bench.evidence --only baselines-examples
	$(BIN)/python -m bench.whole --print --doc docs/speed.md

zoo: $(VENV)/tested ## trains the models of the tables from DATA (gtsrb.npz, cifar10-*.npz) into ZOO; goes on where it stopped
	$(BIN)/python -m bench.zoo --data $(DATA) --out $(ZOO)

detect: $(VENV)/tested ## scans ZOO with the defender's images, and runs the quicker of the other detectors; finished rows are not computed again
	test -d $(ZOO)/images/cifar10 || $(BIN)/python -m bench.images --data $(DATA) --set cifar10 --per-class 50 --out $(ZOO)/images/cifar10
	for set in cifar2 cifar3 cifar4; do test -d $(ZOO)/images/$$set || $(BIN)/python -m bench.images --data $(DATA) --set $$set --per-class 125 --out $(ZOO)/images/$$set; done
	test -d $(ZOO)/images/gtsrb20 || $(BIN)/python -m bench.images --data $(DATA) --set gtsrb20 --out $(ZOO)/images/gtsrb20
	test -d $(ZOO)/images/gtsrb || $(BIN)/python -m bench.images --data $(DATA) --set gtsrb --out $(ZOO)/images/gtsrb
	test -d $(ZOO)/images/clothes || $(BIN)/python -m bench.images --data $(DATA) --set clothes --size 224 --per-class 50 --out $(ZOO)/images/clothes
	test -d $(ZOO)/images/hands || $(BIN)/python -m bench.images --data $(DATA) --set hands --size 100 --per-class 50 --out $(ZOO)/images/hands
	$(BIN)/python -m bench.detect --zoo $(ZOO)/held --images $(ZOO)/images --out bench/results/held.jsonl
	$(BIN)/python -m bench.detect --zoo $(ZOO)/tune --images $(ZOO)/images --out bench/results/tune.jsonl
	for part in small-tune small-held few; do $(BIN)/python -m bench.detect --zoo $(ZOO)/$$part --images $(ZOO)/images --effort standard --out bench/results/$$part.jsonl; done
	for part in large-tune large-held; do $(BIN)/python -m bench.detect --zoo $(ZOO)/$$part --images $(ZOO)/images --effort standard --no-controls --out bench/results/$$part.jsonl; done
	$(BIN)/python -m bench.ablation --zoo $(ZOO)/tune --images $(ZOO)/images --out bench/results/ablation.jsonl
	$(BIN)/python -m bench.baselines --zoo $(ZOO)/held --images $(ZOO)/images --out bench/results/baselines.jsonl

real: $(VENV)/tested ## fetches other people's classifiers into REAL, scans them, writes docs/real.md; finished rows are not computed again
	-$(BIN)/python -m bench.real fetch $(REAL) $(GIVEN)
	$(BIN)/python -m bench.real scan $(REAL) $(GIVEN) --stage read
	$(BIN)/python -m bench.real scan $(REAL) $(GIVEN)
	$(BIN)/python -m bench.real scan $(REAL) $(GIVEN) --stage told
	-$(BIN)/python -m bench.real plant $(REAL) $(GIVEN) --pixels 48
	$(BIN)/python -m bench.real page --out docs/real.md

repairs: $(VENV)/tested ## repairs the held models of ZOO and tries their triggers from DATA before and after
	test -d $(ZOO)/more/cifar10 || $(BIN)/python -m bench.images --data $(DATA) --set cifar10 --per-class 250 --out $(ZOO)/more/cifar10
	test -d $(ZOO)/more/gtsrb || $(BIN)/python -m bench.images --data $(DATA) --set gtsrb --per-class 21 --out $(ZOO)/more/gtsrb
	$(BIN)/python -m bench.repair --zoo $(ZOO)/held --data $(DATA) --images $(ZOO)/more --out bench/results/repair.jsonl
	$(BIN)/python -m bench.floor --zoo $(ZOO)/held --data $(DATA) --out bench/results/floor.jsonl
	$(BIN)/python -m bench.repair --zoo $(ZOO)/held --data $(DATA) --images $(ZOO)/images --out bench/results/repair-few.jsonl
	$(BIN)/python -m bench.repair --zoo $(ZOO)/tune --data $(DATA) --images $(ZOO)/more --only '*-bpp-36-*' --methods ban --vary --out bench/results/repair-settings.jsonl

golden: $(VENV)/tested ## the reports that README and docs show: scans and repairs the examples, ten minutes
	$(BIN)/python -m tests.golden

CLEAN_ROWS = $(addprefix bench/results/,effort.jsonl small-tune.jsonl large-tune.jsonl conventions-scans.jsonl)
null: $(VENV)/tested ## the scores of clean models that banscan ships, and how far their values are spread, from rows in bench/results
	$(BIN)/python -m bench.spread $(CLEAN_ROWS)
	$(BIN)/python -m bench.null $(CLEAN_ROWS) --out scanner/clean_models.json

evidence: $(VENV)/tested ## docs/evidence.md from the rows in bench/results
	$(BIN)/python -m bench.evidence --out docs/evidence.md

paper: $(VENV)/paper ## docs/paper: the BAN paper's tables and figures beside the rows in bench/results; trains nothing
	$(BIN)/python -m bench.paper page --out docs/paper

paper-zoo: $(VENV)/tested ## trains the paper's models from DATA into PAPER; SCALE=full for GPUs (DEVICE=cuda), small for two cores and a night
	$(BIN)/python -m bench.paper zoo --data $(DATA) --out $(PAPER) --scale $(SCALE) --device $(if $(filter command environment,$(firstword $(origin DEVICE))),$(DEVICE),cpu)

paper-rows: $(VENV)/paper ## scans, baselines, repairs and figures of the models in PAPER; finished rows are not computed again
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.paper measure --zoo $(PAPER) --data $(DATA)

matrix: $(VENV)/tested ## docs/matrix.md: every family of classifiers in every form that they are written in
	$(BIN)/python -W ignore -m tests.importers.matrix --rows .matrix.jsonl --out docs/matrix.md
	rm .matrix.jsonl

check: lint ## while working: lint and the tests that neither train nor search; under a minute
	$(BIN)/python -m pytest -m "not slow" -n 2

fuzz: $(VENV)/tested ## reads mutants of model files, images and tables for MINUTES; finished batches are not read again
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m bench.fuzz --minutes $(MINUTES) --out bench/results/fuzz.jsonl --keep .mutants

test: $(VENV)/tested ## everything that needs no GPU, in two processes of one thread each
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-frameworks: $(VENV)/tested ## Keras, scikit-learn and Paddle, each apart, write models anew, which are tested; so are the clients of hubs, onnx2torch, and Ray
	mkdir -p .frameworks/files
	for name in keras sklearn paddle; do \
	  test -d .frameworks/$$name || $(PYTHON) -m venv .frameworks/$$name || exit 1; \
	  .frameworks/$$name/bin/pip --disable-pip-version-check --quiet install -r tests/data/$$name.txt || exit 1; \
	  .frameworks/$$name/bin/python tests/data/write_$$name.py .frameworks/files --large || exit 1; \
	done
	BANSCAN_FRAMEWORKS=.frameworks/files $(BIN)/python -m pytest tests/importers/test_frameworks.py
	test -d .frameworks/places || $(BIN)/python -m venv .frameworks/places
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
	  >$$(.frameworks/places/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth
	.frameworks/places/bin/pip --disable-pip-version-check --quiet install -r tests/data/places.txt
	.frameworks/places/bin/pip --disable-pip-version-check --quiet install --no-deps -r tests/data/onnx2torch.txt
	.frameworks/places/bin/python -m pytest tests/scanner/places tests/importers/onnx/test_second.py
	test -d .frameworks/ray || $(BIN)/python -m venv .frameworks/ray
	# on top of what is installed for the other tests
	.frameworks/ray/bin/python -c 'import pathlib, site, sys; pathlib.Path(site.getsitepackages()[0], "below.pth").write_text(sys.argv[1])' \
	  "$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')"
	.frameworks/ray/bin/pip --disable-pip-version-check --quiet install -r tests/scanner/fleet/ray.txt
	.frameworks/ray/bin/python -m pytest tests/scanner/fleet/test_ray.py

lint: $(VENV)/tested ## style, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/tested ## whole scans (SIZES=large: at 224x224, too), the search beside other ways to write it, what reading large files costs (8 GB of memory)
	$(BIN)/python -m bench.whole --sizes $(SIZES) $(if $(BESIDE),--beside $(BESIDE)) --doc docs/speed.md
	$(BIN)/python -m bench.speed --device cpu --doc docs/speed.md
	$(BIN)/python -m bench.cost

bench-gpu: ## kernel tests, scans and the search on a GPU, full width; 8 minutes, with MINUTES=25 all of it; installs nothing: PYTHON has torch and pytest
	$(PYTHON) -m bench.gpu --device $(DEVICE) --minutes $(MINUTES) $(if $(OUT),--out $(OUT)) $(if $(COMMIT),--commit $(COMMIT))

clean: ## remove what the other targets made
	rm -rf $(VENV) .frameworks build dist *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "banscan needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints-cpu.txt | $(VENV)/bin/python
	$(if $(HAS_GPU),,$(PIP) --retries 1 --extra-index-url $(CPU_INDEX) -c constraints-cpu.txt torch 2>/dev/null)
	$(PIP) $(CONSTRAINTS) -e .
	touch $@

$(VENV)/paper: $(VENV)/tested
	$(PIP) $(CONSTRAINTS) -e '.[paper]'
	touch $@

$(VENV)/tested: $(VENV)/installed requirements-test.txt
	$(PIP) $(CONSTRAINTS) -r requirements-test.txt
	touch $@
