"""Diarizers: who speaks when in a recording that nothing else tells it about."""
