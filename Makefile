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
  emoji_onset_hazard eos_confound adapter_soup quantisation icl_explanation

.PHONY: demo test soak lint experiments notebooks docs clean

demo: $(STAMP)  ## set up, then run the main job on the shipped organism
	$(BIN)/interp demo --out runs/demo

experiments: $(STAMP)  ## the ten experiments on the shipped organism, two at a time
	@OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -j2 --output-sync $(RUNS)

RUNS := $(EXPERIMENTS:%=runs/experiments/%)
.PHONY: $(RUNS)
$(RUNS): runs/experiments/%:
	@$(BIN)/python experiments/$*.py --out $@

test: $(STAMP)  ## set up, then test, lint and type-check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

soak: $(STAMP)  ## the whole demo, killed 30 times
	INTERP_KILLS=30 INTERP_FULL_DEMO=1 $(BIN)/python -m pytest -s tests/test_kill.py

docs: $(STAMP)  ## the site, into site/; warnings are errors (make test builds it, too)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else "interp needs Python 3.11 or later; this is %d.%d. Name another: make PYTHON=python3.12 ..." % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

notebooks: $(STAMP)  ## run the notebooks again and keep what they show
	$(BIN)/python notebooks/execute.py

clean:
	rm -rf $(VENV) runs site
