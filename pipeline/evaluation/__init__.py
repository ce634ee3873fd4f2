"""Evaluation of trained models: predictions, metrics, calibration, comparisons and tables."""
