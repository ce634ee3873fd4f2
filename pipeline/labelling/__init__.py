"""A trained model with its encoders, labelling new recordings."""
