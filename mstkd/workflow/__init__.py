"""What Snakemake is told about results."""
