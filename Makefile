# make demo    three simulated subjects, registered from start to end (OUTPUT=demo)
# make test    the whole test suite
# make test-hpc  what wants root: a Slurm that it starts (it installs slurm-wlm and munge), and, where
#              IMAGE=FILE.sif and Apptainer are there, the image
# make parity  networks of the original code, in environments of its own, against ours
# make bench   time and memory beside the original code (an hour); with BIDS_DIR=DIR, a cohort with
#              segmentations, accuracy beside greedy too
# make bundled-model BIDS_DIR=DIR  the network of --model bundled, trained anew on OpenNeuro's ds002748:
#              hours of a processor; stopped, the same command goes on
# make docs    the documentation, in docs/_build/index.html
# make lint    style of the code
# make clean   remove the environment, the demo and what builds leave
#
# PYTHON chooses the interpreter and TORCH what pip installs for torch before all else, for example
#   make demo PYTHON=python3.12 TORCH="torch --index-url <wheels you prefer>"

PYTHON ?= $(shell command -v python3.11 || command -v python3)
OUTPUT ?= demo
# A release already installed is kept by what is installed after it. Where pip would bring CUDA to a
# machine without a GPU, name a build without it in TORCH.
TORCH ?= $(if $(shell command -v nvidia-smi),"torch>=2.4",torch==2.13.0)

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from-setup.py

PARITY := $(VENV)-parity
INPUTS := $(PARITY)/pair
# The original 0.2 wants an older numpy, and its Keras code an older Python and tensorflow.
ORIGINAL := --no-deps voxelmorph==0.2 neurite==0.2 pystrum==0.4
SUPPORT := "numpy<2" nibabel scipy scikit-image scikit-learn h5py matplotlib tqdm six packaging

# Whose own code reads our files in the tests, which are skipped without: FreeSurfer's library, for which
# pip needs a C compiler, and the loader of sMRIPrep, without all that it runs.
OTHERS := surfa xxhash smriprep niworkflows acres

.PHONY: demo test test-hpc parity parity-fixtures bench bundled-model docs lint clean env

demo: $(STAMP)
	$(BIN)/vxmprep-demo "$(OUTPUT)"

# In the order of the folders, most of what takes long comes early: the files with the most tests take
# little, and with those first one process was alone at the end.
test: $(VENV)/.others
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-hpc: $(STAMP) $(VENV)-boutiques/.made
	$(VENV)-boutiques/bin/bosh validate containers/vxmprep.json
	command -v slurmctld munged >/dev/null || \
		apt-get install -y --no-install-recommends slurm-wlm munge
	VXMPREP_IMAGE="$(abspath $(IMAGE))" $(BIN)/python -m pytest -m hpc $(PYTEST_ARGS)

$(VENV)-boutiques/.made:
	rm -rf $(VENV)-boutiques
	$(PYTHON) -m venv $(VENV)-boutiques
	$(VENV)-boutiques/bin/python -m pip install --quiet boutiques
	touch $@

parity: $(STAMP) $(PARITY)/.made
	rm -rf $(INPUTS) && mkdir $(INPUTS)
	$(BIN)/python tests/parity/inputs.py $(INPUTS)
	$(PARITY)/torch/bin/python tests/parity/original_torch.py $(INPUTS)
	$(PARITY)/keras/bin/python tests/parity/original_keras.py $(INPUTS)
	$(BIN)/python tests/parity/compare.py $(INPUTS)

# Small ones, kept with the tests.
parity-fixtures: $(STAMP) $(PARITY)/.made
	$(BIN)/python tests/parity/inputs.py tests/parity/small --small
	$(PARITY)/torch/bin/python tests/parity/original_torch.py tests/parity/small --small
	$(PARITY)/keras/bin/python tests/parity/original_keras.py tests/parity/small --small

BENCH ?= bench
bench: $(STAMP) $(PARITY)/.made $(VENV)-newer/.made
	$(BIN)/python benchmarks/speed.py $(PARITY)/torch/bin/python $(VENV)-newer/bin/python
	$(if $(BIDS_DIR),$(BIN)/python benchmarks/registration.py "$(BENCH)/results" --threads 1 -- "$(BIDS_DIR)" "$(BENCH)/out")

# First without segmentations, then with what the registration without a network finds.
TRAIN = $(BIN)/vxmprep "$(BIDS_DIR)" "$(NETWORKS)" train --voxel-size 2 --field-resolution full \
	--integration-steps 6 --smoothness-weight 0.5 --augmentation 0.25 --validation-pairs 4 --nprocs 1
NETWORKS ?= bundled-model

bundled-model: $(STAMP)
	$(TRAIN) --model-name unsupervised --learning-rate 1e-3 --final-learning-rate 1e-4 \
		--iterations 5000 --validate-every 250 --patience 8
	$(TRAIN) --model-name taught --initial-model unsupervised --segmentations atlas \
		--segmentation-weight 0.5 --learning-rate 3e-4 --final-learning-rate 3e-5 \
		--iterations 1600 --validate-every 200
	cp "$(NETWORKS)/models/taught/model.pt" vxmprep/models/bundled.pt
	cp "$(NETWORKS)/models/taught/card.json" vxmprep/models/card.json
	@echo "see $(NETWORKS)/models/taught/README.md for what vxmprep/models/README.md says of it"

$(VENV)-newer/.made:
	rm -rf $(VENV)-newer
	$(PYTHON) -m venv $(VENV)-newer
	$(VENV)-newer/bin/python -m pip install --quiet $(TORCH)
	$(VENV)-newer/bin/python -m pip install --quiet voxelmorph==0.3.4
	touch $@

$(PARITY)/.made:
	rm -rf $(PARITY)
	$(PYTHON) -m venv $(PARITY)/torch
	$(PARITY)/torch/bin/python -m pip install --quiet $(TORCH)
	$(PARITY)/torch/bin/python -m pip install --quiet $(SUPPORT)
	$(PARITY)/torch/bin/python -m pip install --quiet $(ORIGINAL)
	python3.11 -m venv $(PARITY)/keras
	$(PARITY)/keras/bin/python -m pip install --quiet tensorflow-cpu==2.12.1 $(SUPPORT)
	$(PARITY)/keras/bin/python -m pip install --quiet $(ORIGINAL)
	touch $@

docs: $(STAMP)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet docs docs/_build

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

env: $(STAMP)

$(STAMP): setup.py
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

$(VENV)/.others: $(STAMP)
	-$(BIN)/python -m pip install --quiet --no-deps $(OTHERS)
	touch $@

clean:
	rm -rf $(VENV) $(PARITY) $(VENV)-newer $(VENV)-boutiques build dist docs/_build *.egg-info .pytest_cache .ruff_cache .hypothesis
	rm -rf "$(OUTPUT)" "$(BENCH)"
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
