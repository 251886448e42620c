# Each target makes .venv and installs what it needs when that is missing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test check bench findings referees clean

# The main job in one command: make a dataset, train YOLOv2 on it, measure, detect.
quickstart: .venv/installed
	$(BIN)/python tools/train.py configs/quickstart.yaml --resume
	$(BIN)/python tools/eval.py runs/quickstart --json runs/quickstart/metrics.json \
		--out runs/quickstart/evaluation
	$(BIN)/python tools/detect.py data/shapes-easy/JPEGImages/test_*.jpg --max-images 12 \
		--weights runs/quickstart --out runs/quickstart/detections
	@echo "mAP and FPS: runs/quickstart/metrics.json; pictures: runs/quickstart/detections"

test: .venv/installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed
	$(BIN)/python benchmarks/evaluation.py

# Surprises of other libraries, each in an environment of its own; fetches packages.
findings:
	bash findings/run_all

# detkit beside programs that have the right answer; GNU Octave among them. Outside CI.
referees: .venv/installed
	bash referees/run_all

clean:
	rm -rf .venv runs data/shapes-easy

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@
