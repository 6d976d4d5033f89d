"""Networks: the backbone and the adaptors that fuse several embeddings."""
