"""Fair face recognition by multi-teacher knowledge distillation (MST-KD)."""

__version__ = "0.1.0"
