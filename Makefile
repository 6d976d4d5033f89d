# Two commands do everything, set-up included: `make demo` and `make test`.
# `make test LOCK=envs/test-lock.txt` tests with the very packages of that file (Python 3.11, Linux).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo pictures site test lint clean

demo: .venv/installed
	$(BIN)/snakemake --cores all --rerun-incomplete
	$(BIN)/mstkd show-tables results/tables/table?.csv
	@echo "The report: $(CURDIR)/results/report.html"

# README's pictures and what it says of the demo, from the demo's results.
pictures: demo
	$(BIN)/python benchmarks/pictures.py results

# The documentation, to be read without a network: site/index.html.
site: .venv/installed-test
	$(BIN)/mkdocs build --strict

test: .venv/installed-test
	$(if $(LOCK),@cmp -s $(LOCK) .venv/lock.txt || { echo ".venv: not made with $(LOCK); make clean first"; exit 1; })
	$(BIN)/python -m pytest

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, this is %d.%d: make PYTHON=python3.12 ..." % v[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(LOCK),$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r $(LOCK))
	$(if $(LOCK),cp $(LOCK) .venv/lock.txt)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

clean:
	rm -rf .venv .snakemake site
