"""Tuning an encoder on the utterances that train a model."""
