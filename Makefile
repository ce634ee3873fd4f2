# LPGNet: recordings to an emotion timeline. `make help` lists the targets.
CONFIG ?= configs/demo.yaml
ARGS ?=
# Starts several processes, e.g. "accelerate launch --num_processes 4",
# or on CPUs "python -m torch.distributed.run --nproc_per_node 2".
LAUNCH ?=
RECORDING ?= examples/demo/recording/recording.flac
# Follows the file's name; where --name or --run is another, say MODEL=work/NAME/runs/RUN.
MODEL ?= work/$(basename $(notdir $(CONFIG)))/runs/default
OUT ?= timelines
EXPORT ?= exported
# More of `lpgnet predict` and `lpgnet serve`, e.g. "--asr hf:openai/whisper-small --formats all".
OPTIONS ?=
# Names of benchmarks.
BENCH ?=
PYTHON ?= python3

VENV := .venv
READY := $(VENV)/.ready
# Named, since the make of macOS looks commands up on the old PATH where it does without a shell.
SHELL := /bin/bash
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# The package with an extra. uv installs in a fraction of pip's time, and is used where it is there.
install = if command -v uv >/dev/null; then \
	    uv pip install --quiet --python $(VENV)/bin/python -c constraints.txt -e '.[$(1)]'; \
	else \
	    $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(1)]'; \
	fi

# One stage: by the lpgnet command, or as a module where a launcher starts it; `--` so that torchrun does not take the
# stage's --run for short of its own --run-path.
stage = $(if $(LAUNCH),$(LAUNCH) -m -- lpgnet.pipeline.$(1),lpgnet $(1)) --config $(CONFIG) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup demo prepare features tune train evaluate crossval ablations predict serve export test lint bench docs clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12
	@echo
	@echo 'CONFIG=$(CONFIG)  ARGS="--section.field value ..."  LAUNCH="accelerate launch --num_processes 4"'

setup: $(READY) ## make .venv with everything in it (minutes, about 5 GB)

$(READY): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(call install,dev)
	touch $(READY)

demo: $(READY) ## the whole way on the embedded demo corpus, from recordings to a timeline
	lpgnet prepare --config configs/demo.yaml
	lpgnet features --config configs/demo.yaml
	lpgnet crossval --config configs/demo.yaml --crossval.folds one --crossval.seeds 2 \
	    --crossval.models "[lpgnet, text, audio]" --crossval.presets "[lpgnet-plus]" \
	    --crossval.overlays '["configs/raters"]'
	lpgnet train --config configs/demo.yaml
	lpgnet evaluate --config configs/demo.yaml
	lpgnet predict examples/demo/recording/recording.flac --model work/demo/runs/default --out work/demo/timelines
	@echo
	@echo 'The run folder is work/demo/runs/default. Try next:'
	@echo '  make features train evaluate CONFIG=configs/table.yaml    your own corpus: edit that file first'
	@echo '  make predict RECORDING=call.wav    a recording of yours, with call.srt beside it'

prepare: $(READY) ## corpus -> manifest
	lpgnet prepare --config $(CONFIG) $(ARGS)

features: prepare ## manifest -> cached embeddings
	$(call stage,features)

tune: features ## an encoder adapted to the training utterances (then --encoders.audio.name hf:work/NAME/tuned/audio)
	$(call stage,tune)

train: features ## embeddings -> model
	$(call stage,train)

evaluate: train ## metrics, intervals and plots on the test split
	$(call stage,evaluate)

crossval: features ## a table: models x folds x seeds
	$(call stage,crossval)

ablations: features ## the same table: the model, and it without each of its parts (configs/ablations)
	$(call stage,crossval) --crossval.overlays '["configs/ablations"]' --crossval.table ablations

predict: train ## RECORDING=file or folder: new recordings -> emotion timelines in OUT
	lpgnet predict $(RECORDING) --model $(MODEL) --out $(OUT) $(OPTIONS)

serve: train ## a web page to drop recordings on, for this machine alone
	lpgnet serve --model $(MODEL) $(OPTIONS)

export: train ## EXPORT=folder: the best model, with its encoders, to share
	lpgnet export --model $(MODEL) --out $(EXPORT) --bundle_encoders true

# Tests side by side gain nothing from sharing their work between threads.
test: export OMP_NUM_THREADS ?= 1
test: $(READY) ## the whole test suite, a core each for its files
	python -m pytest -n auto --dist loadfile

lint: $(READY) ## style and types
	ruff check .
	ruff format --check .
	mkdir -p build/mypy/lpgnet
	for name in pipeline feature_extractors model cache; do ln -sfn ../../../$$name build/mypy/lpgnet/$$name; done
	ln -sf ../../../lpgnet/__init__.py ../../../lpgnet/__main__.py build/mypy/lpgnet/
	cd build && mypy --config-file ../pyproject.toml

bench: $(READY) ## BENCH="store predict": these, else all: every speed and size that the documents claim
	python benchmarks/bench.py $(BENCH)

docs: $(READY) ## the documentation as a website, in build/site
	$(call install,docs)
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

clean: ## remove what the stages wrote (not the environment)
	rm -rf work timelines
