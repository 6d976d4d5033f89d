"""The audit: every measure and comparison of systems on one list of scored pairs, as tables."""
