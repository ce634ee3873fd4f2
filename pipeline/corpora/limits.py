"""The most that is read of a recording, whoever made it."""

# Rates of speech that is worth resampling: below, a second of file would become minutes of waveform (Hz).
MIN_RATE, MAX_RATE = 1_000, 1_000_000

# Two days and nights in one file, or 16 GiB; a longer one would be digested and searched for speech for hours.
MAX_RECORDING_HOURS, MAX_RECORDING_BYTES = 48, 2**34

# An utterance is in memory as a whole, a gigabyte at 16 kHz if it is this long.
MAX_UTTERANCE_HOURS = 4

# A clip that is unpacked from an archive or a table: as much as one cell of Parquet can hold.
MAX_CLIP_BYTES = 2**31
