"""Readers, one a format: what lies on disk, as lists of images and pairs."""
