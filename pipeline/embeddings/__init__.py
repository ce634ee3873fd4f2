"""Which embeddings a corpus needs, and computing those that the store does not have."""
