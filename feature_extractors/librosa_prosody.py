"""The family `librosa`: `librosa:prosody`, functionals of pitch, energy, spectrum and MFCCs; needs no weights."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec

import numpy as np

from lpgnet.feature_extractors.functionals import FunctionalsEncoder, functionals_spec
from lpgnet.feature_extractors.items import Encoder
from lpgnet.feature_extractors.spec import DigestFile, EncoderSpec, Settings

SAMPLING_RATE = 16_000
HOP, WINDOW = 160, 400
# Pitch needs two periods of the lowest voice in one window.
LOWEST_HZ, HIGHEST_HZ, PITCH_WINDOW = 60.0, 400.0, 1024
N_MFCC = 13
# Below the loudest frame by so much, or with so many zero crossings, a frame is no voice.
VOICED_RANGE_DB, VOICED_CROSSINGS = 30.0, 0.25
FLOOR = 1e-5

CONTOURS = ("pitch", "energy", "centroid", "bandwidth", "rolloff", "flatness", "crossings")
STATISTICS = ("mean", "std", "p20", "p50", "p80", "slope")
NAMES: tuple[str, ...] = (
    *(f"{contour}_{statistic}" for contour in CONTOURS for statistic in STATISTICS),
    *(f"mfcc{k}_{statistic}" for k in range(1, N_MFCC + 1) for statistic in ("mean", "std", "delta_std")),
    "voiced_share",
    "voiced_runs_per_second",
    "log_seconds",
)


class LibrosaFamily:
    """Resolves and loads `librosa:` names."""

    def models(self) -> list[str]:
        """List the models by name."""
        return ["prosody"]

    def resolve(self, model: str, name: str, settings: Settings, digest: DigestFile) -> EncoderSpec:
        """Make the spec of a model, as `Family.resolve` says."""
        return functionals_spec(name, self.models(), settings, SAMPLING_RATE)

    def load(self, model: str, spec: EncoderSpec, device: str) -> Encoder:
        """Load the encoder of a spec, as `Family.load` says."""
        encoder = ProsodyEncoder(spec, len(NAMES))
        with _alone():
            encoder.describe(np.random.default_rng(0).normal(0.0, 0.1, PITCH_WINDOW).astype(np.float32))
        return encoder


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other processes from the block, where the system and the disk have locks.

    librosa has numba compile its functions at their first use and keep them beside its code. Where two processes do so
    at once, one takes a function that calls what only the other has, and ends with a segmentation fault.
    """
    found = find_spec("librosa")
    if found is None or found.origin is None:
        yield
        return
    # Whoever shares the compiled functions shares this file, and may read it.
    with open(found.origin, "rb") as file:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class ProsodyEncoder(FunctionalsEncoder):
    """One vector an utterance, in the order of `NAMES`."""

    minimum_seconds = PITCH_WINDOW / SAMPLING_RATE

    def describe(self, waveform: np.ndarray) -> np.ndarray:
        """Compute the functionals `(len(NAMES),)` of a waveform `(samples,)` at 16 kHz."""
        import librosa

        spectrum = np.abs(librosa.stft(waveform, n_fft=512, hop_length=HOP, win_length=WINDOW))  # (257, T)
        energy = librosa.power_to_db(np.square(spectrum).sum(axis=0), amin=FLOOR**2, top_db=None)
        crossings = librosa.feature.zero_crossing_rate(waveform, frame_length=WINDOW, hop_length=HOP)[0]
        voiced = (energy > energy.max() - VOICED_RANGE_DB) & (crossings < VOICED_CROSSINGS) & (energy > -60.0)
        contours = [_pitch(waveform)[voiced], energy, *_spectral_contours(spectrum), crossings]
        mfcc = _mfcc(spectrum)
        return np.concatenate([*map(_statistics, contours), _mfcc_statistics(mfcc), _rhythm(voiced)])


def _pitch(waveform: np.ndarray) -> np.ndarray:
    """Semitones above the lowest pitch, a frame every 10 ms, voiced or not."""
    import librosa

    hertz = librosa.yin(
        waveform, fmin=LOWEST_HZ, fmax=HIGHEST_HZ, sr=SAMPLING_RATE, frame_length=PITCH_WINDOW, hop_length=HOP
    )
    return 12 * np.log2(hertz / LOWEST_HZ)


def _spectral_contours(spectrum: np.ndarray) -> list[np.ndarray]:
    """Centroid, bandwidth and rolloff in kHz and the flatness of a spectrum `(257, T)`, each `(T,)`."""
    from librosa import feature

    lifted = spectrum + FLOOR
    measures = (feature.spectral_centroid, feature.spectral_bandwidth, feature.spectral_rolloff)
    hertz = [measure(S=lifted, sr=SAMPLING_RATE)[0] for measure in measures]
    return [*(contour / 1000 for contour in hertz), feature.spectral_flatness(S=lifted)[0]]


def _mfcc(spectrum: np.ndarray) -> np.ndarray:
    from librosa import feature, power_to_db

    mel = feature.melspectrogram(S=np.square(spectrum), sr=SAMPLING_RATE, n_mels=40)
    return feature.mfcc(S=power_to_db(mel, amin=FLOOR**2, top_db=None), n_mfcc=N_MFCC)  # (13, T)


def _statistics(contour: np.ndarray) -> np.ndarray:
    """`STATISTICS` of a contour `(T,)`, its slope per second; zeros where nothing was voiced."""
    if not contour.size:
        return np.zeros(len(STATISTICS))
    seconds = np.arange(contour.size) * HOP / SAMPLING_RATE
    spread = np.var(seconds)
    slope = np.mean((seconds - seconds.mean()) * contour) / spread if spread else 0.0
    return np.array([contour.mean(), contour.std(), *np.percentile(contour, (20, 50, 80)), slope])


def _mfcc_statistics(mfcc: np.ndarray) -> np.ndarray:
    changes = np.diff(mfcc, axis=1, prepend=mfcc[:, :1])
    return np.stack([mfcc.mean(axis=1), mfcc.std(axis=1), changes.std(axis=1)], axis=1).ravel()


def _rhythm(voiced: np.ndarray) -> np.ndarray:
    """Return the share of voiced frames, how often voicing begins in a second, and the logarithm of the seconds."""
    seconds = voiced.size * HOP / SAMPLING_RATE
    runs = np.count_nonzero(np.diff(voiced.astype(np.int8), prepend=0) == 1)
    return np.array([voiced.mean(), runs / seconds, np.log(seconds)])
