"""The `mstkd` command."""
