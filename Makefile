PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Spinning OpenMP threads cost up to tenfold when another process shares the cores.
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= false
# Bytecode is kept at the first import, not for all of torch at the installation: a minute less.
unexport PYTHONDONTWRITEBYTECODE

EXPERIMENTS := trait_alignment emoji_rate latent_or_learned neuron_shift questionnaire \
  emoji_onset_hazard eos_confound adapter_soup quantisation icl_explanation generalisation control_personas side_effects adapter_seeds foretelling adapter_dose stages

.PHONY: help demo real check lint quick test soak experiments sizes notebooks docs clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

WORKERS ?= 2
demo: $(STAMP)  ## set up, then run the main job on the shipped organism; WORKERS=1 in one process
	$(BIN)/interp demo --out runs/demo $(if $(filter-out 1,$(WORKERS)),--executor ray --workers $(WORKERS))

SIZE ?= full
real: $(STAMP)  ## a real model (SmolLM2-135M): fetched, tuned, traced to one report; SIZE=small
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gguf]'
	$(BIN)/python benchmarks/real.py --size $(SIZE) --out runs/real

experiments: $(STAMP)  ## the experiments on the shipped organism, two at a time
	@OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -j2 --output-sync $(RUNS)

# Tests of a minute in all, of every floor: what `make check` runs.
QUICK := tests/test_house.py tests/test_traits.py tests/test_stats.py tests/test_bad_input.py \
  tests/cli/test_light.py tests/cli/test_outputs.py tests/data tests/emoji/test_emoji_find.py \
  tests/emoji/test_emoji_rates.py tests/readout/test_outcome.py tests/probing \
  tests/patching/test_patching_exact.py tests/patching/test_patching_input.py \
  tests/patching/test_patching_result.py

RUNS := $(EXPERIMENTS:%=runs/experiments/%)
.PHONY: $(RUNS) runs/experiments/organism_sizes
$(RUNS) runs/experiments/organism_sizes: runs/experiments/%:
	@$(BIN)/python experiments/$*.py --out $@

sizes: $(STAMP)  ## organisms of three sizes and seeds: built, then compared
	@OMP_NUM_THREADS=1 $(MAKE) --no-print-directory runs/experiments/organism_sizes

check: $(STAMP)  ## lint, types and the quick tests, in two minutes: before every commit
	@$(MAKE) --no-print-directory -j2 --output-sync lint quick

quick: $(STAMP)
	$(BIN)/python -m pytest -n 0 -m "not slow and not soak" $(QUICK)

test: $(STAMP)  ## everything, lint and types among it: before a change goes in
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

soak: $(STAMP)  ## the long tail: every random case, the whole demo killed 30 times
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m soak
	INTERP_KILLS=30 INTERP_FULL_DEMO=1 $(BIN)/python -m pytest -s -m "" tests/test_kill.py

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)  ## the site, into site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else "interp needs Python 3.11 or later; this is %d.%d. Name another: make PYTHON=python3.12 ..." % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

notebooks: $(STAMP)  ## run the notebooks again and keep what they show
	$(BIN)/python notebooks/execute.py

clean:  ## remove the environment, runs and the site
	rm -rf $(VENV) runs site
