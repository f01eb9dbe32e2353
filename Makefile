# Every target sets up .venv by itself. A fresh machine needs Python 3.10+, make and git; `make docs` also npm.
PYTHON ?= python3
MINUTES ?= 10
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
NEWEST := .venv-newest
# as many processes as JOBS, one thread each: more would only get in each other's way
QUIET := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.PHONY: help setup demo test test-newest docs bench prepare export readme check clean
help:
	@echo 'make setup        .venv with everything'
	@echo 'make demo         train a model for MINUTES=$(MINUTES), score it, write a report'
	@echo 'make test         every notebook, then tests/'
	@echo 'make test-newest  the same library under the newest fastai and fastcore'
	@echo 'make docs         the site, in docs/_build/html'
	@echo 'make bench        speed and experiments, JSON; hours'
	@echo 'make check        the half minute of make test that compares notebooks, modules and README'
	@echo 'make prepare      before a commit: export, clean, README, test'
	@echo 'make clean        remove what these made'

setup: $(VENV)/.ready
$(VENV)/.ready: settings.ini setup.py
	@echo 'setting up $(VENV): a minute or so, about 6 GB'
	$(PYTHON) -m venv $(VENV)
	@if $(BIN)/python -m pip install -q uv; \
	then $(BIN)/uv pip install -q --python $(BIN)/python -e '.[dev]'; \
	else $(BIN)/python -m pip install -q -e '.[dev]'; fi
	@touch $@

demo: setup
	$(BIN)/t2i demo --minutes $(MINUTES)

# half a minute: the code is clean; notebooks, modules and README agree
check: setup
	$(BIN)/ruff check -q .
	$(BIN)/python -m pytest -q tests/test_repo.py

test: check
	$(QUIET) $(BIN)/nbdev_test --n_workers $(JOBS) --timing
	$(QUIET) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests --ignore tests/test_repo.py

# An overlay: .venv's packages, and above them the newest fastai and fastcore, under which nbdev 2 no longer imports
test-newest: setup
	@test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_paths()["purelib"])' > \
	  "$$($(NEWEST)/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/below.pth"
	@$(NEWEST)/bin/python -m pip install -q --upgrade fastai fastcore 2> $(NEWEST)/pip.log || { cat $(NEWEST)/pip.log; exit 1; }
	@$(NEWEST)/bin/python -c 'import fastai, fastcore; print("fastai", fastai.__version__, "fastcore", fastcore.__version__)'
	$(QUIET) $(NEWEST)/bin/python tests/run_notebooks.py --jobs $(JOBS)
	$(QUIET) $(NEWEST)/bin/python -m pytest -n $(JOBS) --dist loadfile tests --ignore tests/test_repo.py --ignore tests/test_site.py

docs: setup
	$(BIN)/python docs/build.py

bench: setup
	@for f in benchmarks/*.py; do $(BIN)/python $$f || exit 1; done

export: setup
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean

readme: setup
	$(BIN)/python docs/readme.py

prepare: export readme test

clean:
	rm -rf $(VENV) $(NEWEST) build dist *.egg-info docs/_build _proc .pytest_cache .ruff_cache
