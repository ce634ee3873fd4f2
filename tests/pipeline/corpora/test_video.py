"""Videos as recordings of a corpus: their sound is what went into them, decoded once for many utterances."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
import soxr

from lpgnet.cache import FeatureStore, StatCache, file_digest
from lpgnet.pipeline.common.workers import Workers
from lpgnet.pipeline.config import AudioEncoderConfig, Config, CorpusConfig, EncodersConfig, FeaturesConfig
from lpgnet.pipeline.corpora import containers
from lpgnet.pipeline.corpora.audio import Segment, describe, open_audio, read_segment, segment_of
from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance, write_manifest
from lpgnet.pipeline.embeddings.equal_clips import equal_clips
from lpgnet.pipeline.embeddings.fill_store import fill_store
from lpgnet.pipeline.embeddings.plan import plan_audio
from lpgnet.pipeline.errors import MissingExtraError, PipelineError
from lpgnet.pipeline.prepare import prepare

av = pytest.importorskip("av", reason="the extra 'media' is not installed")

RATE = 16_000
ENCODER = Path(__file__).parents[3] / "examples" / "demo" / "encoders" / "audio"
# Two voices, none of which a codec could keep as it is.
SOUND = (0.2 * np.random.default_rng(0).standard_normal((2, 3 * RATE))).astype(np.float32)
# The longest frame of their codecs (samples).
FRAME = 1152
NAMES = [("a.mp4", "aac"), ("a.mov", "aac"), ("a.mkv", "aac"), ("a.webm", "libopus"), ("a.avi", "mp2")]


def write_video(
    path: Path, *, codec: str = "aac", sound: np.ndarray | None = SOUND, begin: int = 0, **options: str
) -> Path:
    """A picture of nothing, and from `begin` seconds on `sound` (channels, samples), which may be none."""
    layouts = {1: "mono", 2: "stereo"}
    with av.open(str(path), "w", options=options) as container:
        picture = container.add_stream("libvpx" if path.suffix == ".webm" else "mpeg4", rate=5)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        track = None
        if sound is not None:
            rate = 48_000 if codec == "libopus" else RATE
            track = container.add_stream(codec, rate=rate, layout=layouts[len(sound)])
        for _ in range(15):
            container.mux(picture.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(picture.encode())
        if track is not None and sound is not None:
            resampler = av.AudioResampler(track.format.name, track.layout.name, track.rate, track.frame_size or 1024)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), "fltp", layouts[len(sound)])
            frame.sample_rate = RATE
            # Without times the container is not told what the codec puts before the sound.
            frame.pts, frame.time_base = begin * RATE, Fraction(1, RATE)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(track.encode(part))
            container.mux(track.encode())
    return path


def to_wav(video: Path, wav: Path) -> Path:
    """Decode the sound by PyAV's own short way: to 16 bits, at its own rate, with all its channels."""
    with av.open(str(video)) as container:
        stream = container.streams.audio[0]
        with av.open(str(wav), "w") as target:
            copy = target.add_stream("pcm_s16le", rate=stream.rate, layout=stream.layout.name)
            for frame in container.decode(stream):
                frame.pts = None
                target.mux(copy.encode(frame))
            target.mux(copy.encode())
    return wav


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "a.mp4")


@pytest.fixture(autouse=True)
def _no_tracks() -> Iterator[None]:
    yield
    containers.forget_tracks()


@pytest.mark.parametrize(("name", "codec"), NAMES)
@pytest.mark.parametrize("begin", [0, 1])
def test_the_sound_lies_where_the_one_that_was_written_lay(tmp_path: Path, name: str, codec: str, begin: int) -> None:
    """Sample by sample, where the container tells what the codec put before it, and else within a frame.

    AVI does not tell, nor does the list of edits of an MP4 track that begins late, as FFmpeg reads it. Silence is not
    put before such a track.
    """
    with open_audio(str(write_video(tmp_path / name, codec=codec, begin=begin))) as sound:
        rate, decoded = sound.samplerate, sound.read(dtype="float32")
    written = soxr.resample(SOUND.T, RATE, rate)
    told = name in ("a.mkv", "a.webm") or (begin == 0 and name != "a.avi")
    assert 0 <= lag_of(decoded, written) <= (0 if told else FRAME)
    assert -FRAME < len(decoded) - len(written) < 2 * FRAME


def lag_of(sound: np.ndarray, other: np.ndarray) -> int:
    """By how many samples `sound` (samples, channels) lies behind `other`, in the same order of channels."""
    size = len(sound) + len(other)
    products = np.fft.rfft(sound, size, axis=0) * np.fft.rfft(other, size, axis=0).conj()
    lag = int(np.fft.irfft(products.sum(axis=1), size).argmax())
    return lag if lag < len(sound) else lag - size


@pytest.mark.parametrize(("name", "codec"), NAMES)
def test_samples_are_those_of_the_wav_that_pyav_makes(tmp_path: Path, name: str, codec: str) -> None:
    video = write_video(tmp_path / name, codec=codec)
    wav = to_wav(video, tmp_path / "a.wav")
    seen, expected = describe(str(video)), describe(str(wav))
    assert (seen.sampling_rate, seen.n_samples, seen.channels) == (
        expected.sampling_rate,
        expected.n_samples,
        expected.channels,
    )
    assert seen.digest == file_digest(video.open("rb")), "the content key is of the file itself"
    for start, end, channel in [(None, None, None), (0.5, 1.25, 1), (2.1, 2.2, 0), (0.0, 0.1, None)]:
        pair = [
            read_segment(segment_of(str(path), info, start=start, end=end, channel=channel), RATE)
            for path, info in ((video, seen), (wav, expected))
        ]
        assert np.abs(pair[1]).max() > 0.01
        assert np.array_equal(*pair)


def test_an_address_gives_what_the_file_gives(video: Path) -> None:
    with fsspec.open("memory://videos/a.mp4", "wb") as file:
        file.write(video.read_bytes())
    assert describe("memory://videos/a.mp4") == describe(str(video))
    segments = [Segment(file, 100, 9000, 1, RATE) for file in (str(video), "memory://videos/a.mp4")]
    assert np.array_equal(*(read_segment(segment, RATE) for segment in segments))


def features(folder: Path, suffix: str, *, workers: int = 0) -> tuple[np.ndarray, list[bytes]]:
    """Embeddings by the stages themselves, of a table of segments of `a` and `b`."""
    table = "dialogue_id,audio,start,end,channel\nd,a{0},,,\nd,a{0},0.5,1.5,\nd,b{0},1,2.25,1\ne,a{0},0.2,2,0\n"
    root = folder / f"corpus{suffix}"
    (root / "t.csv").write_text(table.format(suffix))
    config = Config(
        name=suffix[1:],
        work=str(folder / "work"),
        corpus=CorpusConfig(root=str(root)),
        encoders=EncodersConfig(audio=AudioEncoderConfig(name=f"hf:{ENCODER}", precision="fp32")),
        features=FeaturesConfig(store=str(folder / f"store{suffix}{workers}"), workers=workers, device="cpu"),
    )
    prepare(config)
    (filled,) = fill_store(config)
    assert not filled.extraction.problems
    assert filled.wanted == 4
    plan = plan_audio(read_utterances(config), str(root), None)
    store = FeatureStore(Path(config.features.store), filled.spec.fingerprint)
    return np.stack([store[request.key].values for request in plan.requests]), [one.key for one in plan.requests]


def read_utterances(config: Config) -> tuple[Utterance, ...]:
    from lpgnet.pipeline.corpora.manifest import read_manifest

    return read_manifest(config.folder).utterances


def test_features_of_videos_are_those_of_wavs_also_by_other_processes(tmp_path: Path) -> None:
    (tmp_path / "corpus.mp4").mkdir()
    (tmp_path / "corpus.wav").mkdir()
    for name, sound in (("a", SOUND), ("b", SOUND[::-1])):
        write_video(tmp_path / "corpus.mp4" / f"{name}.mp4", sound=np.ascontiguousarray(sound))
        to_wav(tmp_path / "corpus.mp4" / f"{name}.mp4", tmp_path / "corpus.wav" / f"{name}.wav")
    (videos, keys), (wavs, other_keys) = features(tmp_path, ".mp4"), features(tmp_path, ".wav")
    assert np.abs(videos - wavs).max() <= 1e-6 * np.abs(wavs).max()
    assert not set(keys) & set(other_keys)
    assert np.abs(features(tmp_path, ".mp4", workers=2)[0] - videos).max() <= 1e-5 * np.abs(videos).max()


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were decoded."""
    names: list[str] = []
    decode = containers.decode

    def count(*arguments: object, name: str, **options: object) -> bool:
        names.append(Path(name).name)
        return decode(*arguments, name=name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(containers, "decode", count)
    return names


def test_a_file_is_decoded_once_for_all_its_utterances(video: Path, decodings: list[str]) -> None:
    others = [write_video(video.with_name(f"{n}.mp4")) for n in range(6)]
    infos = {str(path): describe(str(path)) for path in (video, *others)}
    for n in range(5):
        for path, info in infos.items():
            segment = segment_of(path, info, start=0.1 * n, end=0.1 * n + 0.05, channel=None)
            assert len(read_segment(segment, RATE)) == 800
    assert sorted(decodings) == [*(f"{n}.mp4" for n in range(6)), "a.mp4"]


def test_videos_that_may_be_copies_are_decoded_once_to_compare_them(
    video: Path, tmp_path: Path, decodings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lpgnet.cache.stat_cache._SETTLED_NS", 0)
    for name in ("copy.mp4", "other.mp4"):
        shutil.copy(video, tmp_path / name)
    (tmp_path / "other.mp4").write_bytes(video.read_bytes() + b"\0")
    corpus = Corpus("c", str(tmp_path), "table", 1)
    turns = [Utterance("d", name, name) for name in ("a.mp4", "copy.mp4", "other.mp4")]
    for _ in range(2):
        containers.forget_tracks()
        stat_cache = StatCache(tmp_path / "stat.sqlite")
        assert equal_clips(corpus, turns, stat_cache, follow_links=True) == [["a.mp4", "copy.mp4"]]
    assert decodings == ["a.mp4", "copy.mp4"]


def test_a_file_that_changed_is_decoded_again(video: Path, decodings: list[str]) -> None:
    before = describe(str(video))
    write_video(video, sound=SOUND[:, : 2 * RATE])
    assert describe(str(video)).n_samples < before.n_samples
    assert len(decodings) == 2


def test_two_readers_of_one_file_do_not_disturb_each_other(video: Path) -> None:
    with open_audio(str(video)) as first, open_audio(str(video)) as second:
        parts = [sound.read(500) for _ in range(4) for sound in (first, second)]
    with open_audio(str(video)) as alone:
        whole = alone.read(2000)
    assert np.array_equal(np.concatenate(parts[0::2]), whole)
    assert np.array_equal(np.concatenate(parts[1::2]), whole)


def kept_bytes() -> list[int]:
    """Of each track that is kept, the one that was used last being the last."""
    return [os.fstat(track.fileno()).st_size for track in containers._tracks.values()]


@pytest.mark.parametrize(("bound", "most", "kept"), [("TRACKS", 4, 4), ("BYTES", 3.5, 3), ("BYTES", 0.5, 1)])
def test_what_is_kept_is_bounded_and_has_no_name(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: float, kept: int
) -> None:
    """By how many there are, and by their bytes (here: in sizes of one); the last one is kept whatever its size."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    describe(str(video))
    monkeypatch.setattr(containers, f"_KEPT_{bound}", int(most * (kept_bytes()[0] if bound == "BYTES" else 1)))
    for n in range(7):
        describe(str(shutil.copy(video, tmp_path / f"{n}.mp4")))
    assert len(kept_bytes()) == kept
    assert list(folder.iterdir()) == []


def test_looking_at_many_videos_tells_how_far_it_is(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lpgnet.pipeline.common.console.LINE_SECONDS", (0.0, 0.0))
    others = [shutil.copy(video, tmp_path / f"{n}.mp4") for n in range(3)]
    turns = [Utterance("d", f"u{n}", Path(path).name) for n, path in enumerate(others)]
    plan_audio(turns, str(tmp_path), StatCache(tmp_path / "stat.sqlite"))
    told = capsys.readouterr().err.splitlines()
    assert [line.startswith("recordings: ") for line in told] == [True] * 3


def seconds_of(file: str) -> float:
    return describe(file).seconds


def test_other_processes_decode_too(video: Path) -> None:
    with Workers(2) as workers:
        found = [workers.submit(seconds_of, str(video)) for _ in range(3)]
        assert [future.result() for future in found] == [seconds_of(str(video))] * 3


def test_a_video_without_sound(tmp_path: Path) -> None:
    video = write_video(tmp_path / "mute.mp4", sound=None)
    with pytest.raises(PipelineError, match=r"mute\.mp4: has no audio track$"):
        describe(str(video))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize(("name", "codec"), [*NAMES, ("fast.mp4", "aac")])
def test_a_video_that_breaks_off(tmp_path: Path, name: str, codec: str, share: float) -> None:
    """Its index stands at its end, or before the sound that is missing; FFmpeg reads what is left of AVI as a whole."""
    options = {"movflags": "faststart"} if name == "fast.mp4" else {}
    video = write_video(tmp_path / name, codec=codec, **options)
    content = video.read_bytes()
    video.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(PipelineError, match=rf"{name}: (is truncated: .*; copy|cannot be decoded .*; copy)") as caught:
        describe(str(video))
    assert "\n" not in str(caught.value)


def test_an_avi_of_several_chunks_and_one_that_tells_no_size_are_read(tmp_path: Path) -> None:
    """As of large files, and of those that were written to a pipe; without its last byte the former is refused."""
    video = write_video(tmp_path / "a.avi", codec="mp2")
    content, more = video.read_bytes(), b"RIFF" + (12).to_bytes(4, "little") + b"AVIXJUNK" + bytes(4)
    expected = describe(str(video)).n_samples
    for name, written in (("b.avi", content + more), ("c.avi", content[:4] + bytes(4) + content[8:])):
        (tmp_path / name).write_bytes(written)
        assert describe(str(tmp_path / name)).n_samples == expected
    # A chunk of odd length is filled up to an even place, where the next one begins; the last need not be.
    odd = b"RIFF" + (13).to_bytes(4, "little") + b"AVIXJUNK" + bytes(5)
    for written in (odd, odd + bytes(1), odd + bytes(1) + more):
        (tmp_path / "e.avi").write_bytes(content + written)
        assert describe(str(tmp_path / "e.avi")).n_samples == expected
    (tmp_path / "e.avi").write_bytes(content + odd + bytes(1) + more[:-1])
    with pytest.raises(PipelineError, match=r"e\.avi: is truncated"):
        describe(str(tmp_path / "e.avi"))
    (tmp_path / "d.avi").write_bytes((content + more)[:-1])
    with pytest.raises(PipelineError, match=r"d\.avi: is truncated"):
        describe(str(tmp_path / "d.avi"))


def corpus_of(video: Path, folder: Path, *, count: int) -> Config:
    turns = tuple(Utterance("d", f"u{n}", video.name, text="yes") for n in range(count))
    config = Config(
        work=str(folder),
        encoders=EncodersConfig(audio=AudioEncoderConfig(name=f"hf:{ENCODER}", precision="fp32")),
        features=FeaturesConfig(store=str(folder / "store"), device="cpu"),
    )
    write_manifest(config.folder, Manifest(Corpus("c", str(video.parent), "table", 1), turns))
    return config


def test_without_the_extra_one_line_tells_it_of_all_videos(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = corpus_of(video, tmp_path / "work", count=5)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"a\.mp4: is a video .*pip install 'lpgnet\[media\]'"):
        fill_store(config)


def test_a_corpus_of_videos_is_prepared_without_the_extra(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text may be all that is wanted; that two clips sound the same is told where it can be."""
    (tmp_path / "t.csv").write_text("dialogue_id,audio\nd,a.mp4\nd,a.mp4\n")
    monkeypatch.setitem(sys.modules, "av", None)
    config = Config(
        work=str(tmp_path / "work"),
        corpus=CorpusConfig(root=str(tmp_path)),
        features=FeaturesConfig(store=str(tmp_path / "store")),
    )
    prepare(config)
    assert [one.audio for one in read_utterances(config)] == ["a.mp4", "a.mp4"]


def test_a_sound_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    """Its first bytes tell what it is, and belong to it."""
    for name in ("a.wav", "a.flac", "a.ogg", "a.mp3"):
        soundfile.write(tmp_path / name, SOUND.T, RATE)
        info = describe(str(tmp_path / name))
        assert (info.sampling_rate, info.channels) == (RATE, 2)
        assert len(read_segment(segment_of(str(tmp_path / name), info, start=0, end=1, channel=0), RATE)) == RATE
