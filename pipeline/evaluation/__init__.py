"""What a trained model is worth: predictions, metrics, calibration, comparisons, tables."""
