"""Optimisation: one loop, its schedule and checkpoints, and the three training steps."""
