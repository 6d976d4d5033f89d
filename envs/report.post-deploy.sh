#!/usr/bin/env bash
# Snakemake runs this inside the environment just made, from the folder of the run; the workflow
# says where the checkout lies (workflow/rules/common.smk).
set -euo pipefail
python -m pip install --no-deps --editable "${MSTKD_CHECKOUT:-.}"
