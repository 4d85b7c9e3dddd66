# The front door. `make` lists what there is; everything here also works as the plain command that it calls.
#
# Without PYTHON, commands run in .venv, which is made on the first call from requirements.txt. With PYTHON=..., that
# interpreter is used as it is (an active virtual or conda environment, say) and nothing is installed unasked.

.DEFAULT_GOAL := help
.PHONY: help setup demo plan reproduce reference test lint notebooks lab bench clean

PARAMS ?= clipart comparison comparison_both comparison_more prior
ONLY ?=
CHOSEN = --params $(PARAMS:%=params/%) $(if $(ONLY),--only $(ONLY))
VENV := .venv
STAMP := $(VENV)/.installed
PIP := -m pip install --quiet --disable-pip-version-check

ifdef PYTHON
RUN := $(PYTHON)
READY := check
else
RUN := $(VENV)/bin/python
READY := $(STAMP)
endif

help:  ## list these commands (the default)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Add PYTHON=python to use the active environment instead of $(VENV)."

setup:  ## create the environment, or with PYTHON=... install the pins into that one
ifdef PYTHON
	@echo "Installing requirements.txt into the environment of $(PYTHON): up to 4 minutes and 6.5 GB."
	@$(PYTHON) $(PIP) -r requirements.txt
	@$(PYTHON) $(PIP) --no-deps --no-build-isolation --editable .
else
setup: $(STAMP)
endif

demo: $(READY)  ## run the study on the embedded data: three notebooks, one table
	@$(RUN) -m anga demo

plan: $(READY)  ## list what reproduce would do, what is finished, and the time left
	@$(RUN) -m anga plan $(CHOSEN)

reproduce: $(READY)  ## run the whole study and write outputs/report/index.html (PARAMS: some sets, ONLY: some files)
	@$(RUN) -m anga reproduce $(CHOSEN)

reference: $(if $(ONLY),edition) reproduce  ## the same, and keep its reports in outputs/reference, the edition in the repository
	@mkdir -p outputs/reference
	@for set in $(PARAMS); do $(call replace,outputs/reference/$$set,outputs/report/$$set) || exit 1; done
	@du -sh outputs/reference

# $(call replace,A,B): a copy of folder B takes the place of A, if it is whole.
replace = { rm -rf $(1).saving && cp -R $(2) $(1).saving && rm -rf $(1) && mv $(1).saving $(1) || \
  { rm -rf $(1).saving; false; }; }

# The report in which ONLY makes some files anew.
.PHONY: edition
edition:
	@mkdir -p outputs/report
	@for set in $(PARAMS); do \
	  if [ -d outputs/reference/$$set ]; then $(call replace,outputs/report/$$set,outputs/reference/$$set); \
	  else rm -rf outputs/report/$$set; fi || exit 1; \
	done

test: $(READY)  ## run all tests, notebooks included, in two processes
	@$(RUN) -m pytest -n 2 --dist loadfile

lint: $(READY)  ## check style and formatting
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

notebooks: $(READY)  ## bring notebooks and their paired scripts into step
	@$(RUN) -m jupytext --sync notebooks/*.py

lab: $(READY)  ## open the notebooks in JupyterLab
	@$(RUN) -m jupyterlab --notebook-dir=notebooks

bench: $(READY)  ## print cost ratios: aligned step, retrieval, batches, memory
	@$(RUN) -m benchmarks

clean:  ## delete results and caches; outputs/reference and .venv stay
	@if [ -d outputs ]; then find outputs -mindepth 1 -maxdepth 1 ! -name reference -exec rm -rf {} +; fi
	@rm -rf build anga.egg-info .pytest_cache .ruff_cache
	@find anga benchmarks notebooks tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# An interrupted installation leaves no stamp, so that the next call goes on with it.
$(STAMP): requirements.txt pyproject.toml
	@base=$$(sh tools/find_python.sh) || exit 1; \
	echo "Setting up $(VENV) with $$base: 2 to 4 minutes and 6.5 GB, once."; \
	$$base -m venv $(VENV)
	@$(VENV)/bin/python $(PIP) -r requirements.txt
	@$(VENV)/bin/python $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "$(VENV) is ready."

.PHONY: check
check:
	@$(PYTHON) tools/check_environment.py
