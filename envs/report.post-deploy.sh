#!/usr/bin/env bash
# Snakemake runs this inside the environment just made, from the folder of the run; the workflow
# says where the checkout lies (workflow/rules/common.smk). The Python is named whole: if the
# activation failed, that of PATH would be another environment's.
set -euo pipefail
python=${CONDA_PREFIX:?is not set: the environment is not active}/bin/python
"$python" -m pip install --no-deps --editable "${MSTKD_CHECKOUT:-.}"
