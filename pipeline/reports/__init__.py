"""Predictions and metrics in forms that people and other programs read."""
