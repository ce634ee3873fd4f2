"""Extraction: memory that does not grow with the corpus, decoding ahead, bad items, and ends that lose nothing."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from lpgnet.cache import FeatureStore, StatCache
from lpgnet.feature_extractors import Embedding, Encoder, load_encoder
from lpgnet.pipeline.corpora import audio
from lpgnet.pipeline.corpora.audio import Segment, read_segment
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.embeddings.extraction import Extraction, embed, merge
from lpgnet.pipeline.embeddings.plan import Problem, Request, plan_audio, pool_frames
from lpgnet.pipeline.errors import PipelineError

RATE = 16_000
HOURS = 3
FIXTURES = Path(__file__).parents[3] / "examples" / "demo" / "corpus" / "audio"

# Embeds few turns, many, and one of an hour by the stage itself; the most memory that it had by then (KB) is printed.
STAGE = """
import resource, sys
from lpgnet.pipeline.config import AudioEncoderConfig, Config, EncodersConfig, FeaturesConfig
from lpgnet.pipeline.embeddings.fill_store import fill_store
from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance, write_manifest

recording, encoder, folder = sys.argv[1:]
config = Config(
    work=folder,
    encoders=EncodersConfig(audio=AudioEncoderConfig(name=f"hf:{encoder}", layers=[0], precision="fp32")),
    features=FeaturesConfig(store=f"{folder}/store", workers=0, batch_budget=480_000, device="cpu"),
)
for seconds, count in ((0.3, 400), (0.3, 4000), (3600, 1)):
    turns = [
        Utterance("d", f"u{n}", "long.wav", n * 2.5, n * 2.5 + seconds, None, None, None, None, None, None, None)
        for n in range(count)
    ]
    write_manifest(config.folder, Manifest(Corpus("c", recording, "table", 1), tuple(turns)))
    print("computed", fill_store(config)[0].extraction.computed, "embeddings")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

# Embeds a minute and then what a server never gives, and is ended by a signal meanwhile.
ENDED = """
import faulthandler, signal, sys
from contextlib import closing
from lpgnet.cache import FeatureStore
from lpgnet.feature_extractors import load_encoder
from lpgnet.pipeline.corpora.audio import Segment
from lpgnet.pipeline.embeddings.plan import Request
from lpgnet.pipeline.embeddings.extraction import Extraction, embed
from lpgnet.pipeline.common.stops import Stop

if __name__ == "__main__":
    # A process that is started in the background of a shell ignores interrupts, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.enable()
    stop = Stop()
    stop.watch()
    folder, *files = sys.argv[1:]
    sources = [Segment(file, 0, 61 * 16000, 0, 16000) for file in files]
    requests = [Request(str(n), bytes([n] * 16), source) for n, source in enumerate(sources)]
    encoder = load_encoder("librosa:prosody")
    try:
        pairs = embed(encoder, requests, done := Extraction(), device="cpu", workers=2, batch_budget=None)
        with closing(pairs), FeatureStore(folder, "0" * 32).writer({}) as writer:
            for request, e in pairs:
                writer.add(request.key, e.values, n_frames=e.n_frames)
                print("embedded", flush=True)
        print(done.problems, file=sys.stderr)
    except KeyboardInterrupt:
        sys.exit(stop.conclude())
"""


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    folder = tmp_path_factory.mktemp("encoder")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    convolutions = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    Wav2Vec2Model(Wav2Vec2Config(**sizes, **convolutions)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hours: a minute of noise, and then a hole in the file, which takes no disk."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    samples = HOURS * 3600 * RATE
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, samples, "NONE", ""))
        file.writeframesraw(np.random.default_rng(0).integers(-3000, 3000, 60 * RATE, dtype=np.int16).tobytes())
        file._patchheader = lambda: None  # type: ignore[attr-defined]
    with path.open("r+b") as raw:
        raw.truncate(44 + 2 * samples)
    return path


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, long_recording: Path, encoder_folder: Path) -> None:
    command = [sys.executable, "-c", STAGE, str(long_recording.parent), str(encoder_folder), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"computed {count} " in done.stdout for count in (400, 3600, 1))
    few, many, hour = (int(line) / 1024 for line in done.stdout.splitlines() if line.isdigit())
    assert many - few < 100
    assert hour - few < 1000


def request_for(path: Path | str, samples: int, number: int = 0, start: int = 0) -> Request:
    return Request(f"u{number}", number.to_bytes(16, "big"), Segment(str(path), start, start + samples, 0, RATE))


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("noise") / "noise.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(70 * RATE), RATE)
    return path


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> Encoder:
    return load_encoder(f"hf:{encoder_folder}")


def run_embed(
    encoder: Encoder, requests: list[Request], *, workers: int = 0, budget: int | None = None
) -> tuple[dict[str, Embedding], Extraction]:
    done = Extraction()
    pairs = embed(encoder, requests, done, device="cpu", workers=workers, batch_budget=budget)
    return {request.utterance_id: embedding for request, embedding in pairs}, done


def test_workers_give_what_the_stage_itself_decodes(encoder: Encoder, noise: Path) -> None:
    requests = [request_for(noise, RATE * (1 + n % 3), n, start=n * RATE) for n in range(60)]
    here, done = run_embed(encoder, requests)
    there, counted = run_embed(encoder, requests, workers=2)
    assert list(here) == list(there) == [request.utterance_id for request in requests]
    assert all(np.array_equal(here[name].values, there[name].values) for name in here)
    assert (done.computed, done.audio_seconds, done.size) == (counted.computed, counted.audio_seconds, counted.size)


def test_decoding_imports_nothing_heavy() -> None:
    """A worker imports the module of the function that it runs: what it drags in costs every worker its memory."""
    heavy = "{'torch', 'transformers', 'datasets'}"
    code = f"import sys, lpgnet.pipeline.embeddings.extraction; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_good_of_a_chunk_are_embedded(encoder: Encoder, noise: Path, tmp_path: Path) -> None:
    bad = tmp_path / "nan.wav"
    soundfile.write(bad, np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    requests = [request_for(noise, RATE, 0), request_for(bad, RATE, 1), request_for(noise, RATE, 2, start=RATE)]
    requests.append(request_for(tmp_path / "gone.wav", RATE, 3))
    embeddings, done = run_embed(encoder, requests)
    assert list(embeddings) == ["u0", "u2"]
    assert done.computed == 2
    assert [problem.utterance_id for problem in done.problems] == ["u1", "u3"]
    assert "NaN" in done.problems[0].message
    assert "no such audio file" in done.problems[1].message


def test_what_an_encoder_fails_on_is_a_problem_of_its_own(
    encoder: Encoder, noise: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = encoder.encode

    def without_memory_for_long_ones(items: list[np.ndarray], batch_budget: int | None = None) -> list[Embedding]:
        if max(map(len, items)) > 2 * RATE:
            raise RuntimeError("out of memory")
        return real(items, batch_budget=batch_budget)

    requests = [request_for(noise, RATE * seconds, seconds) for seconds in (1, 3, 2)]
    monkeypatch.setattr(encoder, "encode", without_memory_for_long_ones)
    embeddings, done = run_embed(encoder, requests)
    assert list(embeddings) == ["u1", "u2"]
    assert done.problems == [Problem("u3", "cannot be used (RuntimeError: out of memory)")]


def test_padding_is_counted(encoder: Encoder, noise: Path) -> None:
    requests = [request_for(noise, samples, n) for n, samples in enumerate((RATE, 2 * RATE, 3 * RATE))]
    assert run_embed(encoder, requests, budget=0)[1].padding == 0
    _, done = run_embed(encoder, requests, budget=10**9)
    assert (done.size, done.padding) == (6 * RATE, 3 * RATE)


def test_what_several_processes_did_is_added_up() -> None:
    one = Extraction(2, 3.0, 40, 4, 0.5, {"silent": 1}, [Problem("a", "x")], 8.0)
    other = Extraction(1, 2.0, 20, 1, 0.7, {"silent": 2, "padded": 1}, [Problem("b", "y")], 9.0)
    assert merge([one, other]) == Extraction(
        3, 5.0, 60, 5, 0.7, {"silent": 3, "padded": 1}, [Problem("a", "x"), Problem("b", "y")], 9.0
    )


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_a_long_segment_is_read_in_blocks_without_a_seam(
    noise: Path, rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = Segment(str(noise), 100, 5 * RATE, 0, RATE)
    whole = read_segment(segment, rate)
    monkeypatch.setattr(audio, "BLOCK_SECONDS", 0.7)
    assert np.array_equal(read_segment(segment, rate), whole)


def test_a_problem_that_has_passed_is_forgotten(tmp_path: Path) -> None:
    recording = next(FIXTURES.glob("*.flac"))
    known = StatCache(tmp_path / "stat.sqlite")
    assert known.lookup(recording, lambda _: {"problem": "the disk was away"}) == {"problem": "the disk was away"}
    turn = Utterance("d", "u", recording.name, None, None, None, None, None, None, None, None, None)
    plan = plan_audio([turn], str(recording.parent), known)
    assert plan.problems == ()
    assert len(plan.requests) == 1


def test_the_mean_of_many_frames_is_not_lost_in_rounding() -> None:
    frames = np.full((300_000, 1, 2), 0.1, np.float32)
    assert pool_frames(frames) == pytest.approx(0.1, rel=1e-6)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Takes connections and never answers, so that a decoder waits for half a minute."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address(server: socket.socket) -> str:
    return f"ftp://127.0.0.1:{server.getsockname()[1]}/a.wav"


def test_a_decoder_that_dies_is_told(encoder: Encoder, server: socket.socket) -> None:
    def kill_it() -> None:
        # Held open: a decoder whose connection was closed would go on.
        with server.accept()[0]:
            decoders = [c for c in psutil.Process().children() if "spawn_main" in " ".join(c.cmdline())]
            decoders[0].kill()

    killer = threading.Thread(target=kill_it)
    killer.start()
    with pytest.raises(PipelineError, match=r"a decoding process ended.*features\.workers"):
        run_embed(encoder, [request_for(address(server), RATE)], workers=1)
    killer.join()


@contextmanager
def embedding(folder: Path, *files: object) -> Iterator[subprocess.Popen[str]]:
    """A process that embeds files and is the first of a group of processes."""
    script = folder / "ended.py"
    script.write_text(ENDED)
    command = [sys.executable, str(script), str(folder / "store"), *map(str, files)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_embedded_survives_an_end_by_signal(
    noise: Path, server: socket.socket, tmp_path: Path, signal_number: signal.Signals
) -> None:
    with embedding(tmp_path, noise, address(server)) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "embedded\n", (process.stderr.read(), process.wait())
        os.killpg(process.pid, signal_number)
        errors = process.stderr.read()
        assert process.wait() == 128 + signal_number, errors
    assert "Traceback" not in errors, errors
    assert len(FeatureStore(tmp_path / "store", "0" * 32)) == 1


def test_decoders_end_when_the_stage_is_killed(server: socket.socket, tmp_path: Path) -> None:
    with embedding(tmp_path, address(server), address(server)) as process:
        taken = [server.accept(), server.accept()]
        children = psutil.Process(process.pid).children()
        assert len(children) >= len(taken)
        process.kill()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive


def test_ctrl_c_while_decoders_start_shows_no_traceback(server: socket.socket, tmp_path: Path) -> None:
    with embedding(tmp_path, address(server)) as process:
        while not any(is_importing(child) for child in psutil.Process(process.pid).children()):
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr
        assert "Traceback" not in process.stderr.read()
        assert process.wait() == 130


def is_importing(process: psutil.Process) -> bool:
    """Whether it is a decoder that has begun to run, and not yet to decode."""
    with suppress(psutil.Error):
        return "spawn_main" in " ".join(process.cmdline()) and process.cpu_times().user > 0.05
    return False
