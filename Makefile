# Assumes Python >= 3.10 with pip, and make. Everything else goes into .venv.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test check fmt proof-generate proof-reference proof-points proof-domain proof-memory bench clean

# The first of these that runs and is new enough; a name on the PATH may be a shim for nothing.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	"$$p" -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 \
	&& { echo "$$p"; break; }; done)
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install -c constraints.txt
# Also false where a set-up was interrupted before pip was in place.
GOOD := -c 'import pip, sys; sys.exit(sys.version_info < (3, 10))'

DEMO_IMAGE ?= examples/images/retina.jpg
DEMO_BOX ?= 112,530,330,764
DEMO_OUT ?= demo_out
DATA ?= ../shared/data
REFERENCE_SETS := acdc_mri busi_us coco_sample cxr_covid davis345_interactive dsb2018_nuclei \
	kvasir_seg mri_prostate pennfudan_sample ph2_skin

help:  ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' Makefile | awk -F@ '{printf "%-22s %s\n", $$1, $$2}'

setup: .venv/.dev  ## make .venv with Nexus and what its tests need

demo: .venv/.core  ## segment a real picture with real weights; results in demo_out/
	@echo "LiteMedSAM, $(DEMO_IMAGE), box $(DEMO_BOX); the first run fetches 39 MB of weights"
	@$(BIN)/nexus segment "$(DEMO_IMAGE)" --model lite_medsam --box $(DEMO_BOX) --out "$(DEMO_OUT)"
	@echo "done: the mask, the picture with the mask on it, and the COCO annotations are above"

# One thread per worker: two workers with two threads each only get in each other's way on two cores.
test: check  ## everything CI runs: check, then all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

check: .venv/.dev  ## format, lint, types, layers; no tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

fmt: .venv/.dev  ## format and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Longer than a test may take; run by hand. CI runs the same code on less.
proof-generate: .venv/.dev  ## 200 images, killed ten times on the way: the same dataset byte for byte
	$(BIN)/python -m pytest -m slow tests/predict/dataset/test_run.py

proof-reference: .venv/.dev  ## LiteMedSAM on all real images beside the repository, a few minutes
	rm -rf eval_out/reference
	$(BIN)/nexus evaluate --dataset folder $(REFERENCE_SETS:%=--root "$(DATA)/%") --model lite_medsam \
		--protocol box --max-objects 20 --min-area 50 --out eval_out/reference
	$(BIN)/python -m benchmarks.reference eval_out/reference "$(DATA)/lite_medsam_reference.json"

proof-points: .venv/.dev  ## teach LiteMedSAM clicks on the images beside the repository, 20 minutes
	$(BIN)/nexus train examples/fine_tune/points.yaml --set data.root="$(DATA)" --out train_out/points

proof-domain: .venv/.dev  ## adapt LiteMedSAM to cardiac MRI and chest X-ray, 10 minutes
	$(BIN)/nexus train examples/fine_tune/domain.yaml --set data.root="$(DATA)" --out train_out/domain

proof-memory: .venv/.dev  ## long video sessions stay at one size, minutes; rewrites docs/video-memory.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.soak

bench: .venv/.dev  ## measure the image models on this machine
	$(BIN)/python -m benchmarks.image

clean:  ## remove .venv, results and tool caches; fetched weights stay
	rm -rf .venv demo_out eval_out train_out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find nexus tests tools benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so that an interrupted set-up is taken up again by the next command.
# Without ensurepip (Debian without python3-venv) the machine's own pip fills the environment.
.venv/.core: pyproject.toml constraints.txt
	@$(BIN)/python $(GOOD) 2>/dev/null || test -n "$(PYTHON)" || { \
		echo "error: expected Python >= 3.10 on the PATH, got none" >&2; \
		echo "hint: install one, or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@rm -f .venv/.core .venv/.dev
	@$(BIN)/python $(GOOD) 2>/dev/null || { rm -rf .venv; "$(PYTHON)" -m venv .venv; } || { \
		"$(PYTHON)" -m venv --clear --without-pip .venv \
		&& "$(PYTHON)" -m pip --python $(BIN)/python install pip; }
	$(PIP_INSTALL) -e .
	@touch $@

# lvis, which a test compares with, would bring a second OpenCV over the headless one.
.venv/.dev: .venv/.core
	@rm -f $@
	$(PIP_INSTALL) -e ".[dev]"
	$(PIP_INSTALL) --no-deps "lvis>=0.5.3"
	@touch $@
