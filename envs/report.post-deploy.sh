#!/usr/bin/env bash
# Snakemake runs this inside the environment just made, from the folder of the run; the workflow
# says where the checkout lies (workflow/rules/common.smk). The Python is named whole: if the
# activation failed, that of PATH would be another environment's.
set -euo pipefail
python=${CONDA_PREFIX:?is not set: the environment is not active}/bin/python
if [ -f "${MSTKD_CHECKOUT:-.}/pyproject.toml" ]; then
  "$python" -m pip install --no-deps --editable "${MSTKD_CHECKOUT:-.}"
else # the workflow of a wheel, which pip must find where it found it the first time
  "$python" -m pip install --no-deps "mstkd==$MSTKD_VERSION"
fi
