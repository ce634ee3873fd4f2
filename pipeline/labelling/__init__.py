"""Labelling of new recordings by a trained model with its encoders."""
