# Needs only Python 3.11 or newer, git and make. `make demo` and `make test` install what they need into .venv.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo test lint docs fuzz bench clean

demo: .venv/demo-installed
	$(BIN)/mrprism demo

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal -q --durations 15

lint: .venv/test-installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# the documentation as a site in build/site: no warning, no dead link, no request to anywhere
docs: .venv/test-installed
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python site/check.py build/site

# ten minutes for each of forty targets; MINUTES=1 is quicker. Guided by atheris where it can be had.
MINUTES ?= 10
fuzz: .venv/test-installed
	$(BIN)/python -m pip install --disable-pip-version-check -q atheris || echo "without atheris: plain random changes"
	$(BIN)/python fuzz/run.py --minutes $(MINUTES)

# what mrprism costs beside named peers, as ratios beside stored ones; peers that are not installed are left out
bench: .venv/test-installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench.py

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/test-installed: .venv/made pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[test]'
	touch $@ .venv/demo-installed

.venv/demo-installed: .venv/made pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[learn]'
	touch $@

.venv/made:
	@test -n "$(PYTHON)" || { echo "mrprism needs Python 3.11 or newer with venv; name one: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	touch $@
