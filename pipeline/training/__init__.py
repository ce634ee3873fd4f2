"""Cached embeddings -> a trained model: dialogues, splits, runs, checkpoints, the training loop."""
