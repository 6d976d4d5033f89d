"""Faces on disk: generator, readers, packs, splits and batches."""
