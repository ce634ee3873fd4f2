"""Every reader of files that people hand to the program, each with small valid inputs to damage."""

import io
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from lpgnet.cache import DamagedRowError, FeatureStore, StatCache, import_rows, text_key, verify
from tests.hostile import texts
from tests.pipeline.recordings.test_transcripts import CTM, RTTM, STM

ROOT = Path(__file__).parents[2]
_ENCODERS = ROOT / "examples" / "demo" / "encoders"
_MODELS = ROOT / "tests" / "model" / "data" / "v0.1.0"
_FINGERPRINT = "0123456789abcdef"


@dataclass(frozen=True)
class Reader:
    """A reader of one file.

    Attributes:
        file: the path of its input in the folder that it reads.
        read: reads that path; raises AssertionError where it gave something wrong.
        samples: valid inputs.
        beside: what else must be in the folder, by path.
        slow: reading takes tenths of a second, so that few inputs are tried.
    """

    file: str
    read: Callable[[Path], object]
    samples: tuple[bytes, ...]
    beside: Mapping[str, bytes] = field(default_factory=dict)
    slow: bool = False

    def lay(self, folder: Path) -> Path:
        """Make the folder with all its files, and read the valid inputs, so that what is imported late is imported."""
        (folder / self.file).parent.mkdir(parents=True, exist_ok=True)
        for name, content in self.beside.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        for sample in self.samples:
            (folder / self.file).write_bytes(sample)
            self.read(folder / self.file)
        return folder


def _encoded(samples: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(sample.encode() for sample in samples)


def _transcript(suffix: str, *samples: str) -> Reader:
    from lpgnet.pipeline.recordings.transcripts import read_transcript

    return Reader(f"call{suffix}", partial(read_transcript, recording="call"), _encoded(samples))


def _srt_encodings() -> Reader:
    from lpgnet.pipeline.recordings.transcripts import read_transcript

    samples = tuple(texts.SRT.encode(name) for name in ("utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252"))
    return Reader("call.srt", read_transcript, samples)


def _corpus(reader: str, file: str, *samples: str, beside: Mapping[str, str] | None = None, **options: str) -> Reader:
    from lpgnet.pipeline.corpora import read_corpus

    others = {name: text.encode() for name, text in (beside or {}).items()}
    depth = len(Path(file).parts) - 1
    return Reader(
        file, lambda path: read_corpus(reader, str(path.parents[depth]), **options), _encoded(samples), others
    )


def _dataset(write: Callable[[Any, Path], object], file: str) -> Reader:
    """A dataset of two clips, of which one file is damaged; `file` is its path in the folder that is written."""
    import datasets

    from lpgnet.pipeline.corpora import read_corpus

    wav = _audio("wav").samples[0]
    rows = {"dialogue_id": ["a", "a"], "label": [0, -1], "audio": [{"bytes": wav, "path": "a.wav"}] * 2}
    made = datasets.Dataset.from_dict(rows).cast_column("label", datasets.ClassLabel(names=["x", "y"]))

    def read(path: Path) -> None:
        folder = path.parents[len(Path(file).parts) - 1]
        with tempfile.TemporaryDirectory() as clips:
            read_corpus("datasets", str(folder), clips=Path(clips))

    with tempfile.TemporaryDirectory() as folder:
        write(made, Path(folder))
        written = {
            str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
        }
    return Reader(file, read, (written.pop(file),), written, slow=True)


def _saved_dataset(file: str) -> Reader:
    return _dataset(lambda made, folder: made.save_to_disk(folder), file)


def _saved_splits() -> Reader:
    import datasets

    return _dataset(lambda made, folder: datasets.DatasetDict({"a": made}).save_to_disk(folder), "dataset_dict.json")


def _audio_folder(file: str, metadata: str) -> Reader:
    def write(_: object, folder: Path) -> None:
        (folder / "a.wav").write_bytes(_audio("wav").samples[0])
        (folder / file).write_text(metadata)

    return _dataset(write, file)


_TURNS = "Session1/dialog/transcriptions/Ses01F_impro01.txt"
_LABELS = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
_CLIP = {"AudioWAV/1001_DFA_ANG_XX.wav": ""}
_CONSENSUS = "Labels/labels_consensus.csv"
_RATERS = "Labels/labels_detailed.csv"


def _manifest(file: str, sample: str, **beside: str) -> Reader:
    from lpgnet.pipeline.corpora.manifest import read_manifest

    others = {name.replace("_", "."): text.encode() for name, text in beside.items()}
    return Reader(file, lambda path: read_manifest(path.parent), (sample.encode(),), others)


def _features() -> Reader:
    from lpgnet.feature_extractors import EncoderSpec
    from lpgnet.pipeline.embeddings.summaries import FEATURES_FILE, ModalitySummary, read_summaries, write_summaries

    spec = EncoderSpec("hf:a", "text", "all", "mean", "fp32", None, None, False, _FINGERPRINT * 2)
    summary = ModalitySummary(spec.to_dict(), {"hf:a": "fp32"}, 2, 3, ["u1"])
    sample = _written(FEATURES_FILE, lambda folder: write_summaries(folder, {"text": summary}))
    return Reader(FEATURES_FILE, lambda path: read_summaries(path.parent), (sample,))


def _speech() -> Reader:
    from lpgnet.pipeline.embeddings.silence import SPEECH_FILE, read_speech, write_speech

    speech = {(_FINGERPRINT * 4, None): [0.5, 1.25, 2.0, 3.5], (_FINGERPRINT * 4, 1): []}
    sample = _written(SPEECH_FILE, lambda folder: write_speech(folder, speech))
    return Reader(SPEECH_FILE, lambda path: read_speech(path.parent), (sample,))


def _written(file: str, write: Callable[[Path], object]) -> bytes:
    """What the program itself writes."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return next(Path(folder).rglob(file)).read_bytes()


def _stamp() -> Reader:
    from lpgnet.pipeline.common.stamps import is_fresh, write_stamp

    inputs = {"version": 1, "files": {"a.csv": [10, 20]}, "options": {}}
    sample = _written("stamp.json", lambda folder: write_stamp(folder / "stamp.json", inputs))

    def read(path: Path) -> None:
        assert is_fresh(path, inputs) in (True, False)

    return Reader("stamp.json", read, (sample,))


_LOG = b'{"epoch": 1, "loss": 0.5, "dev": {"uar": 0.5}, "learning_rate": 0.001, "train_seconds": 1.5}\n'


def _log() -> Reader:
    from lpgnet.pipeline.training.freshness import LOG_FILE
    from lpgnet.pipeline.training.runs import read_log

    return Reader(LOG_FILE, lambda path: read_log(path.parent), (_LOG * 2,))


def _environment() -> Reader:
    from lpgnet.pipeline.training.runs import ENVIRONMENT_FILE, LOG_FILE, environment, training_cost

    sample = json.dumps(environment(), indent=2).encode()
    return Reader(ENVIRONMENT_FILE, lambda path: training_cost(path.parent), (sample,), {LOG_FILE: _LOG})


def _inputs() -> Reader:
    from lpgnet.pipeline.training.runs import DONE_FILE, INPUTS_FILE, check_same_protocol, recipe_of

    def read(path: Path) -> None:
        check_same_protocol(path.parent, inputs)
        recipe_of(path.parent)

    training = {"drop_unlabelled": False, "seed": 0, "target": "distribution", "vote_smoothing": 0.5}
    inputs = {"labels": {"a": "b"}, "splits": {"scheme": "session"}, "training": training, "fold": "s1", "data": "0f"}
    sample = json.dumps(inputs).encode()
    return Reader(INPUTS_FILE, read, (sample,), {DONE_FILE: b"{}"})


def _predictions() -> Reader:
    from lpgnet.pipeline.evaluation.comparison import read_measured
    from lpgnet.pipeline.evaluation.predictions import PREDICTIONS_FILE
    from tests.pipeline.predicted import outcome, write_run

    rated = {"shares": (0.25, 0.75), "dimensions": {"valence": 2.5}, "ratings": {"valence": 3.0}}
    run = [outcome("d.1", 0, 1, speaker="Ann", **rated), outcome("d.2", -100, 1, condition="scripted", text_seen=True)]
    sample = _written(PREDICTIONS_FILE, lambda folder: write_run(folder / "run", run))
    return Reader(PREDICTIONS_FILE, lambda path: read_measured(path.parent), (sample,))


def _search() -> Reader:
    from lpgnet.pipeline.common.files import read_json
    from lpgnet.pipeline.searching.space import parse_space
    from lpgnet.pipeline.searching.trials import RESULTS_FILE, SearchResults, check_trials

    space = parse_space({"training.epochs": [1, 2]}, "uar")
    trial = {"number": 0, "settings": {"training.epochs": 1}, "scores": {"3": [0.5, 0.25]}, "seconds": 1.5}
    values = {"name": "a", "study": "b", "select": "uar", "sampler": "TPE", "inputs": {"seed": 0}, "trials": [trial]}

    def read(path: Path) -> None:
        results = read_json(path, SearchResults)
        check_trials(results, space, path)
        assert all(trial.score is not None for trial in results.ranked())

    return Reader(RESULTS_FILE, read, (json.dumps(values).encode(),))


def _measured() -> Reader:
    from lpgnet.pipeline.evaluation.comparison import read_measured
    from lpgnet.pipeline.evaluation.predictions import PREDICTIONS_FILE
    from lpgnet.pipeline.evaluation.tables import MEASURED_FILE

    sample = b'{"format": 3, "training": {"seed": 0, "epochs": 2}, "fold": "s1", "labels": {"a": "b"}}'
    predictions = _predictions().samples[0]
    others = {f"s{fold}/seed0/{PREDICTIONS_FILE}": predictions.replace(b"d.", b"d%d." % fold) for fold in (1, 2)}
    others[f"s2/seed0/{MEASURED_FILE}"] = sample
    return Reader(f"s1/seed0/{MEASURED_FILE}", lambda path: read_measured(path.parents[2]), (sample,), others)


def _metrics() -> Reader:
    from lpgnet.pipeline.common.files import to_json
    from lpgnet.pipeline.evaluation.run_results import METRICS_FILE, RunResults, read_results

    sample = json.dumps(to_json(_example(RunResults))).encode()
    return Reader(METRICS_FILE, lambda path: read_results(path.parent), (sample,))


def _example(kind: Any) -> Any:
    """A value of a type: of every container one item, of every union the first type."""
    plain = {str: "a", int: 1, float: 0.5, bool: True}
    if kind in plain:
        return plain[kind]
    if is_dataclass(kind):
        return kind(**{name: _example(hint) for name, hint in get_type_hints(kind).items()})
    if isinstance(kind, type) and issubclass(kind, int | float):  # with a range
        return kind(2 if issubclass(kind, int) else 0.5)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return inner[0]
    if origin is dict:
        return {_example(inner[0]): _example(inner[1])}
    if origin is tuple:
        return tuple(_example(item) for item in inner if item is not Ellipsis)
    return [_example(inner[0])] if origin is list else _example(inner[0])


def _checkpoint() -> Reader:
    import torch

    from lpgnet.pipeline.training.checkpoints import EpochLog, Progress, TrainingState, load_checkpoint, save_checkpoint

    def state() -> TrainingState:
        model = torch.nn.Linear(2, 2)
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        return TrainingState(model, None, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 10))

    progress = Progress(1, 2, [EpochLog(1, 0.5, {"uar": 0.5}, 0.001, 1.5)])
    sample = _written("epoch-*", lambda folder: save_checkpoint(folder, state(), progress))
    return Reader("epoch-00001.safetensors", lambda path: load_checkpoint(path.parent, state()), (sample,))


def _model(file: str) -> Reader:
    from lpgnet.model import load_model

    folder = _MODELS / "lpgnet"
    others = {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors") if name != file}
    return Reader(file, lambda path: load_model(path.parent), ((folder / file).read_bytes(),), others, slow=True)


def _model_config() -> Reader:
    from lpgnet.model.configuration import read_config

    return Reader(
        "config.json", read_config, tuple(path.read_bytes() for path in sorted(_MODELS.glob("*/config.json")))
    )


def _encoder(modality: str, file: str, *, load: bool = False) -> Reader:
    from lpgnet.feature_extractors import load_encoder, resolve_spec

    folder = _ENCODERS / modality
    others = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != file}
    use = load_encoder if load else resolve_spec
    sample = (folder / file).read_bytes()
    return Reader(file, lambda path: use(f"hf:{path.parent}"), (sample,), others, slow=load)


def _tuned(file: str) -> Reader:
    """A tuned encoder that adds nothing to one layer, and its record."""
    import torch

    from lpgnet.feature_extractors import digest_file, load_encoder
    from lpgnet.feature_extractors.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PREFIX, RECORD_FILE
    from lpgnet.feature_extractors.checkpoint import find_checkpoint
    from lpgnet.feature_extractors.spec import digest_json
    from lpgnet.model.weights import write_weights
    from lpgnet.pipeline.common.files import to_json
    from lpgnet.pipeline.training.tuned import Base, Content, Seen, TunedRecord, TuningScore, read_record

    name, layer = f"hf:{_ENCODERS / 'text'}", f"{PREFIX}encoder.layer.0.attention.self.query"
    base = Base(name, digest_json(find_checkpoint(name.removeprefix("hf:"), name).content(digest_file)))
    seen = Seen([Content(_FINGERPRINT * 2, None), Content(None, _FINGERPRINT * 2)], TuningScore(0.5, 0.5, 2))
    record = TunedRecord(base, "text", "demo", "3", {"rank": 1}, 1, seen, seen)
    halves = {f"{layer}.lora_A.weight": torch.ones(1, 128), f"{layer}.lora_B.weight": torch.zeros(128, 1)}
    files = {
        RECORD_FILE: json.dumps(to_json(record)).encode(),
        ADAPTER_CONFIG: json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 2, "use_dora": False}).encode(),
        ADAPTER_WEIGHTS: _written(ADAPTER_WEIGHTS, lambda folder: write_weights(folder / ADAPTER_WEIGHTS, halves)),
    }

    def read(path: Path) -> None:
        read_record(path.parent)
        load_encoder(f"hf:{path.parent}")

    return Reader(file, read, (files.pop(file),), files, slow=True)


def _encoder_index() -> Reader:
    from lpgnet.feature_extractors import resolve_spec

    others = {path.name: path.read_bytes() for path in (_ENCODERS / "text").glob("*.json")}
    others["model-1.safetensors"] = (_ENCODERS / "text" / "model.safetensors").read_bytes()
    sample = b'{"metadata": {"total_size": 8}, "weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors"}}'
    file = "model.safetensors.index.json"
    return Reader(file, lambda path: resolve_spec(f"hf:{path.parent}"), (sample,), others)


def _yaml() -> Reader:
    from lpgnet.pipeline.config import Config, parse_config

    def read(path: Path) -> None:
        parse_config("train", ["--config", str(path)], Config)

    return Reader(
        "experiment.yaml", read, (texts.CONFIG.encode(), (ROOT / "configs/demo.yaml").read_bytes()), slow=True
    )


def _yaml_keys() -> Reader:
    """The part that reads the file and its keys, which is fast; jsonargparse then reads the values."""
    from lpgnet.pipeline.config import Config, _check_keys, _read_yaml

    def read(path: Path) -> None:
        _check_keys(_read_yaml(path), Config, where=str(path))

    return Reader("experiment.yaml", read, (texts.CONFIG.encode(), (ROOT / "configs/demo.yaml").read_bytes()))


def _row(number: int, frames: int = 0) -> np.ndarray:
    shape = (frames, 2, 3) if frames else (2, 3)
    return np.random.default_rng(number).integers(-9, 9, shape).astype(np.float32)


def _shard(*, frames: bool) -> Reader:
    rows = {text_key(f"row {number}"): _row(number, 1 + number if frames else 0) for number in range(3)}
    counts = {key: len(values) if frames else 3 for key, values in rows.items()}

    def write(folder: Path) -> None:
        with FeatureStore(folder, _FINGERPRINT).writer({}) as writer:
            for key, values in rows.items():
                writer.add(key, values, n_frames=counts[key], flags=1)

    def read(path: Path) -> None:
        store = FeatureStore(path.parents[1], _FINGERPRINT)
        verify(store)
        for key in store.keys():  # noqa: SIM118 (no mapping)
            try:
                row = store[key]
            except DamagedRowError:
                continue
            assert np.array_equal(row.values, rows[key]) and (row.n_frames, row.flags) == (counts[key], 1)

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        shard = next(Path(folder).rglob("*.arrow"))
        return Reader(f"{_FINGERPRINT}/{shard.name}", read, (shard.read_bytes(),))


def _description() -> Reader:
    def read(path: Path) -> None:
        assert isinstance(FeatureStore(path.parents[1], _FINGERPRINT).description, dict)

    return Reader(f"{_FINGERPRINT}/encoder.json", read, (b'{"name": "hf:a", "layers": [1, 2], "versions": {}}',))


def _exchange(form: str) -> Reader:
    from lpgnet.cache import export_rows

    ids = {f"utterance {number}": text_key(f"row {number}") for number in range(2)}

    def write(folder: Path) -> None:
        store = FeatureStore(folder / "store", _FINGERPRINT)
        with store.writer({}) as writer:
            for number, key in enumerate(ids.values()):
                writer.add(key, _row(number), n_frames=3, flags=0)
        export_rows(store, folder / f"rows.{form}", ids, form)

    def read(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            import_rows(path, FeatureStore(Path(folder), _FINGERPRINT), ids, {})

    return Reader(f"rows.{form}", read, (_written(f"rows.{form}", write),), slow=True)


def _matrix(suffix: str) -> Reader:
    """A matrix and, beside it, the list of whose rows it has; either is damaged."""
    ids = {f"utterance {number}": text_key(f"row {number}") for number in range(2)}
    stream = io.BytesIO()
    np.save(stream, np.ones((2, 3), np.float32))
    files = {
        ".npy": stream.getvalue(),
        ".txt": "\n".join(ids).encode(),
        ".json": json.dumps(list(ids)).encode(),
        ".csv": "\n".join(["utterance_id", *ids]).encode(),
    }

    def read(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            import_rows(path.with_suffix(".npy"), FeatureStore(Path(folder), _FINGERPRINT), ids, {})

    beside = ".txt" if suffix == ".npy" else ".npy"
    return Reader(f"rows{suffix}", read, (files[suffix],), {f"rows{beside}": files[beside]}, slow=True)


def _stat_cache() -> Reader:
    def read(path: Path) -> None:
        found = StatCache(path).lookup(path.with_name("a.txt"), lambda file: {"digest": "right"})
        assert found == {"digest": "right"}

    def write(folder: Path) -> None:
        (folder / "a.txt").write_bytes(b"a")
        read(folder / "stat.sqlite")

    return Reader("stat.sqlite", read, (_written("stat.sqlite", write),), {"a.txt": b"a"}, slow=True)


def _audio(form: str, subtype: str | None = None) -> Reader:
    import soundfile

    from lpgnet.pipeline.corpora.audio import describe, read_segment, segment_of

    rate = 16_000
    times = np.arange(rate // 4) / rate
    wave = 0.3 * np.sin(2 * np.pi * 220 * times[:, None] * [1, 1.5])

    def write(folder: Path) -> None:
        soundfile.write(folder / f"call.{form}", wave, rate, subtype, format=form.upper())

    def read(path: Path) -> None:
        segment = segment_of(str(path), describe(str(path)), start=None, end=None, channel=None)
        assert np.isfinite(read_segment(segment, rate)).all()

    return Reader(f"call.{form}", read, (_written(f"call.{form}", write),))


def _video(form: str) -> Reader:
    import av

    from lpgnet.pipeline.corpora.audio import describe
    from lpgnet.pipeline.recordings.media import decodable

    def write(folder: Path) -> None:
        with av.open(str(folder / f"call.{form}"), "w") as container:
            stream = container.add_stream("aac", rate=16_000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16_000
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)

    def read(path: Path) -> None:
        with decodable(path) as decoded:
            describe(str(decoded))
        describe(str(path))

    return Reader(f"call.{form}", read, (_written(f"call.{form}", write),))


def _list(suffix: str) -> Reader:
    """A list of recordings to label."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lpgnet.pipeline.recordings.lists import read_list

    rows = [{"recording": "a.wav", "transcript": "a.srt", "n": 1}, {"recording": "s3://bucket/b.wav", "n": 2}]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), table)
    sample = lines if suffix == "jsonl" else table.getvalue()
    return Reader(f"list.{suffix}", lambda path: list(read_list(str(path))), (sample,))


def _timelines() -> Reader:
    """A part of a dataset of timelines, which the next run reads."""
    from lpgnet.pipeline.reports.parquet import DATASET, TimelineDataset
    from tests.pipeline.reports.test_parquet import PRINTS, entry

    def read(path: Path) -> None:
        dataset = TimelineDataset(path.parents[1], path.parents[1] / "scratch")
        dataset.done()
        dataset.settle({"a"})

    with tempfile.TemporaryDirectory() as folder:
        part = TimelineDataset(Path(folder), Path(folder)).add([entry("a", "1"), entry("b", "2")], PRINTS)
        return Reader(f"{DATASET}/{part.name}", read, (part.read_bytes(),))


_MADE: dict[str, Callable[[], Reader]] = {
    "srt": lambda: _transcript(".srt", texts.SRT),
    "srt-encodings": _srt_encodings,
    "vtt": lambda: _transcript(".vtt", texts.VTT),
    "textgrid": lambda: _transcript(".TextGrid", texts.TEXTGRID_LONG, texts.TEXTGRID_SHORT),
    "eaf": lambda: _transcript(".eaf", texts.EAF),
    "stm": lambda: _transcript(".stm", STM),
    "ctm": lambda: _transcript(".ctm", CTM),
    "json": lambda: _transcript(".json", *texts.WHISPER),
    "jsonl": lambda: _transcript(".jsonl", texts.ROWS),
    "csv": lambda: _transcript(".csv", *texts.CSV),
    "tsv": lambda: _transcript(".tsv", texts.TSV),
    "txt": lambda: _transcript(".txt", texts.LINES),
    "rttm": lambda: _transcript(".rttm", RTTM),
    "uem": lambda: _transcript(".uem", texts.UEM),
    "table-csv": lambda: _corpus("table", "table.csv", texts.TABLE_CSV),
    "table-jsonl": lambda: _corpus("table", "table.jsonl", texts.TABLE_ROWS),
    "label-studio": lambda: _corpus("label_studio", "project.json", texts.LABEL_STUDIO, beside={"a.wav": ""}),
    "list-jsonl": lambda: _list("jsonl"),
    "list-parquet": lambda: _list("parquet"),
    "timelines-parquet": _timelines,
    "dataset-parquet": lambda: _dataset(
        lambda made, folder: made.to_parquet(folder / "train.parquet"), "train.parquet"
    ),
    "dataset-arrow": lambda: _saved_dataset("data-00000-of-00001.arrow"),
    "dataset-state": lambda: _saved_dataset("state.json"),
    "dataset-splits": _saved_splits,
    "dataset-metadata-csv": lambda: _audio_folder("metadata.csv", "file_name,dialogue_id,label\na.wav,d,x\n"),
    "dataset-metadata-jsonl": lambda: _audio_folder(
        "metadata.jsonl", '{"file_name": "a.wav", "dialogue_id": "d", "label": "x"}\n'
    ),
    "meld": lambda: _corpus("meld", "train_sent_emo.csv", texts.MELD),
    "iemocap-turns": lambda: _corpus("iemocap", _TURNS, texts.IEMOCAP_TURNS, beside={_LABELS: texts.IEMOCAP_LABELS}),
    "iemocap-labels": lambda: _corpus(
        "iemocap", _LABELS, texts.IEMOCAP_LABELS, beside={_TURNS: texts.IEMOCAP_TURNS}, audio="dialog"
    ),
    "crema_d-votes": lambda: _corpus(
        "crema_d", "processedResults/tabulatedVotes.csv", texts.CREMA_D_VOTES, beside=_CLIP, label="perceived"
    ),
    "crema_d-actors": lambda: _corpus("crema_d", "VideoDemographics.csv", texts.CREMA_D_ACTORS, beside=_CLIP),
    "msp_podcast-consensus": lambda: _corpus(
        "msp_podcast", _CONSENSUS, texts.MSP_PODCAST_CONSENSUS, beside={_RATERS: texts.MSP_PODCAST_RATERS[0]}
    ),
    "msp_podcast-raters": lambda: _corpus(
        "msp_podcast", _RATERS, *texts.MSP_PODCAST_RATERS, beside={_CONSENSUS: texts.MSP_PODCAST_CONSENSUS}
    ),
    "dailytalk": lambda: _corpus("dailytalk", "metadata.json", texts.DAILYTALK),
    "dailytalk-text": lambda: _corpus(
        "dailytalk", "data/2/0_0_d2.txt", "Shall we go?\n", beside={"metadata.json": texts.DAILYTALK}
    ),
    "manifest": lambda: _manifest("manifest.jsonl", texts.MANIFEST, corpus_json=texts.CORPUS),
    "corpus": lambda: _manifest("corpus.json", texts.CORPUS, manifest_jsonl=texts.MANIFEST),
    "features": _features,
    "speech": _speech,
    "stamp": _stamp,
    "log": _log,
    "environment": _environment,
    "inputs": _inputs,
    "metrics": _metrics,
    "predictions": _predictions,
    "measured": _measured,
    "search": _search,
    "checkpoint": _checkpoint,
    "model-config": _model_config,
    "model-folder": lambda: _model("config.json"),
    "model-weights": lambda: _model("model.safetensors"),
    "encoder-config": lambda: _encoder("audio", "config.json"),
    "encoder-preprocessor": lambda: _encoder("audio", "preprocessor_config.json"),
    "encoder-index": _encoder_index,
    "encoder-text": lambda: _encoder("text", "config.json", load=True),
    "encoder-tokenizer": lambda: _encoder("text", "tokenizer_config.json", load=True),
    "tuned-record": lambda: _tuned("tuned.json"),
    "tuned-config": lambda: _tuned("adapter_config.json"),
    "tuned-weights": lambda: _tuned("adapter_model.safetensors"),
    "encoder-audio": lambda: _encoder("audio", "config.json", load=True),
    "yaml": _yaml,
    "yaml-keys": _yaml_keys,
    "shard": lambda: _shard(frames=False),
    "shard-frames": lambda: _shard(frames=True),
    "description": _description,
    "safetensors": lambda: _exchange("safetensors"),
    "npz": lambda: _exchange("npz"),
    "matrix": lambda: _matrix(".npy"),
    "ids_txt": lambda: _matrix(".txt"),
    "ids_json": lambda: _matrix(".json"),
    "ids_csv": lambda: _matrix(".csv"),
    "stat-cache": _stat_cache,
    "wav": lambda: _audio("wav"),
    "wav-float": lambda: _audio("wav", "FLOAT"),
    "flac": lambda: _audio("flac"),
    "ogg": lambda: _audio("ogg"),
    "mp3": lambda: _audio("mp3"),
    "mp4": lambda: _video("mp4"),
    "mkv": lambda: _video("mkv"),
}
READERS = tuple(_MADE)


@cache
def make_reader(name: str) -> Reader:
    """Make a reader by its name, one of `READERS`."""
    return _MADE[name]()
