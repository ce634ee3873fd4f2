"""Which settings score best on development data: the space of them, the trials and the study that they belong to."""
