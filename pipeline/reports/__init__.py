"""Predictions and metrics as reports, tables and files for other programs."""
