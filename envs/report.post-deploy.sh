#!/usr/bin/env bash
# Snakemake runs this from the folder of the workflow, inside the environment just made.
set -euo pipefail
python -m pip install --no-deps --editable .
