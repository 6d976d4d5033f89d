# The workflow is workflow/Snakefile, where the workflow catalog looks for it; from this folder, and
# as `--snakefile Snakefile`, it is the same.
include: "workflow/Snakefile"


if workflow.modifier.is_main_snakefile():
    workflow.default_target = "all"  # Snakemake takes none from an included file
