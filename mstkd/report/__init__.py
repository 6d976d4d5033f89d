"""What is shown: tables, figures, claims. Needs result files only, no torch."""
