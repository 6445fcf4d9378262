# make train   set up, make the built-in data, train CONFIG, test its best checkpoint
# make test    set up and run the whole test suite
PYTHON ?= python3
CONFIG ?= configs/resnet50_ml.py
TRAIN_ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
RUN = work_dirs/$(basename $(notdir $(CONFIG)))

.PHONY: setup data train test lint faults bench-engine bench-eval bench-losses bench-models compare-losses compare-heads bench-loader bench-annotations bench-balance clean

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

data: setup
	$(PY) -m mlcls.datasets.multidigits data/multidigits

train: data
	$(PY) tools/train.py $(CONFIG) --work-dir $(RUN) $(TRAIN_ARGS)
	$(PY) tools/test.py $(RUN)

test: setup
	$(PY) -m pytest $(PYTEST_ARGS)

# All faults a run has to survive: kills, signals, damaged files, full disks, NaN, lost processes. Ends with a line of JSON.
faults: setup
	$(PY) -m tests.faults $(PYTEST_ARGS)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

# Time and memory of an evaluation beside scikit-learn's, torchmetrics' and mmpretrain's; thresholds and intervals too.
bench-eval: setup
	$(PY) tools/benchmarks/bench_eval.py --out docs/results/evaluation/bench_eval.json

# Speed and memory of the losses; the script's --out keeps the line for docs/losses.md.
bench-losses: setup
	$(PY) tools/benchmarks/bench_losses.py

# What the engine costs beside the network: loop, start, checkpoints, processes, long runs.
bench-engine: setup
	$(PY) tools/benchmarks/bench_engine.py --out docs/results/engine/bench_engine.json

# A training step of ResNet-50 beside a bare loop, and what heads add to it.
bench-models: setup
	$(PY) tools/benchmarks/bench_models.py --out docs/results/heads/bench_models.json

# Heads and backbones with 3 seeds, the tables of docs/heads.md; DIR has the photographs, WEIGHTS is MobileNetV2's file.
compare-heads: setup
	$(PY) -m mlcls.datasets.panels data/panels
	$(PY) tools/benchmarks/compare_heads.py --aquarium $(DIR) --weights $(WEIGHTS)

# Trains every config in configs/losses with 3 seeds and writes the tables of docs/losses.md; goes on where it was stopped.
compare-losses: data
	$(PY) tools/benchmarks/compare_losses.py

# Images a second of the loader, beside torchvision's, mmcv's and a hand-written one.
bench-loader: setup
	$(PY) tools/benchmarks/bench_loader.py --out docs/results/data/loader.json

# Nine million images of annotations: seconds and memory of a run and of its workers.
bench-annotations: setup
	$(PY) tools/benchmarks/bench_annotations.py --out docs/results/data/annotations.json

# How even classes become and how even splits are; DATA is the label matrix of COCO-14 as an .npz file.
bench-balance: setup
	$(PY) tools/benchmarks/bench_balance.py $(DATA) --out docs/results/data/balance.json
	$(PY) tools/benchmarks/bench_splitting.py $(DATA) --out docs/results/data/splitting.json

clean:
	rm -rf $(VENV) data/multidigits .mypy_cache .ruff_cache .pytest_cache
