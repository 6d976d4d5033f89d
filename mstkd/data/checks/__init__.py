"""Checks of packed data that take minutes and save a week."""
