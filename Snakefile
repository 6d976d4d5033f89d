# MST-KD: images in groups -> packs -> teachers -> embedding caches -> adaptors -> students ->
# verification -> tables, figures and a report. What lies where:
#   results/packs/{train,verification}/<group>.h5  results/data-report.html
#   results/splits/<set>/<teacher>.csv
#   results/teachers/<backbone>/<set>/<teacher>/seed<seed>/
#   results/embeddings/<backbone>/<set>/seed<seed>.h5
#   results/adaptors/<backbone>/<set>/<adaptor>/seed<seed>/
#   results/students/<backbone>/<set>/<adaptor>/<loss>/seed<seed>/
#   results/tables/  results/figures/  results/report.html
# <backbone> is the teachers' backbone; <set> is specialized, baseline or a control.
from snakemake.utils import min_version

min_version("9.12")


report: "workflow/report/workflow.rst"


# A config file of yours stands alone: Snakemake would merge it into this one.
if not workflow.configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/teachers.smk"
include: "workflow/rules/embeddings.smk"
include: "workflow/rules/adaptors.smk"
include: "workflow/rules/students.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        REPORT_FILES,


refuse_gpus_asked_for_twice(workflow.rules)
