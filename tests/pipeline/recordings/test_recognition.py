"""Speech recognition by any model of transformers: a CTC model that was trained, and tiny Whispers."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from itertools import combinations, pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.corpora.audio import Segment, describe, segment_of
from lpgnet.pipeline.corpora.voice_activity import Span
from lpgnet.pipeline.errors import PipelineError, UsageError
from lpgnet.pipeline.recordings import recognition, whisper
from lpgnet.pipeline.recordings.recognition import Recognition, recognize
from lpgnet.pipeline.recordings.speech_models import SpeechModel, load_speech_model
from lpgnet.pipeline.recordings.stretches import into_speech
from lpgnet.pipeline.recordings.transcripts import Turn
from lpgnet.pipeline.recordings.written import Written, evenly, words_of
from tests.pipeline.recordings.tones import BUZZ_PITCH, RATE, Spoken, hiss, speak, tone

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "examples" / "demo"
RECORDING = DEMO / "recording" / "recording.flac"
CTC = DEMO / "encoders" / "audio"
# Hears words of tones in windows of 3 s; make_whisper.py tells how it came about.
TONES = ROOT / "tests" / "data" / "whisper"


@pytest.fixture(scope="module")
def turns() -> list[Turn]:
    with (DEMO / "recording" / "recording.truth.csv").open(newline="") as file:
        return [Turn(float(row["start"]), float(row["end"]), row["text"]) for row in csv.DictReader(file)][:10]


def segments(turns: Sequence[Turn]) -> list[Segment]:
    info = describe(str(RECORDING))
    return [segment_of(str(RECORDING), info, start=turn.start, end=turn.end, channel=None) for turn in turns]


@pytest.fixture(scope="module")
def ctc() -> SpeechModel:
    return load_speech_model(f"hf:{CTC}", device="cpu")


@pytest.fixture(scope="module")
def toy() -> SpeechModel:
    return load_speech_model(f"hf:{TONES}", device="cpu")


def changed(folder: Path, **settings: object) -> SpeechModel:
    """The toy with other settings of generation; None takes one away."""
    shutil.copytree(TONES, folder)
    path = folder / "generation_config.json"
    values = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
    return load_speech_model(f"hf:{folder}", device="cpu")


@pytest.fixture
def record(tmp_path: Path) -> Callable[[list[np.ndarray]], list[Segment]]:
    """Writes waveforms to one file, one after another with a second between, and gives a stretch of each."""

    def write(waveforms: list[np.ndarray]) -> list[Segment]:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.wav"
        pause = np.zeros(RATE, np.float32)
        soundfile.write(path, np.concatenate([part for one in waveforms for part in (one, pause)]), RATE, "FLOAT")
        starts = np.cumsum([0, *[len(one) + RATE for one in waveforms]])
        return [
            Segment(str(path), int(start), int(start) + len(one), 0, RATE)
            for start, one in zip(starts, waveforms, strict=False)
        ]

    return write


def texts(heard: Recognition) -> list[str]:
    return [" ".join(word.text for word in words) for words in heard.words]


def count_windows(model: SpeechModel) -> list[int]:
    """A list that will hold how many windows each pass of the encoder has."""
    passes: list[int] = []
    model.model.get_encoder().register_forward_hook(lambda _, __, output: passes.append(len(output[0])))
    return passes


def test_a_trained_ctc_model_hears_most_of_it(ctc: SpeechModel, turns: list[Turn]) -> None:
    heard = recognize(ctc, segments(turns))
    likeness = [
        SequenceMatcher(None, said.lower(), turn.text or "").ratio()
        for said, turn in zip(texts(heard), turns, strict=True)
    ]
    assert np.mean(likeness) > 0.6
    assert (heard.language, heard.n_dropped) == (None, 0)
    for words, turn in zip(heard.words, turns, strict=True):
        times = [time for word in words for time in (word.start, word.end)]
        assert times == sorted(times) and turn.start <= times[0] and times[-1] <= turn.end


def test_ctc_words_are_where_they_are_said(ctc: SpeechModel, turns: list[Turn]) -> None:
    """The same words at the same moments, whether a stretch begins with its turn or a second earlier."""
    wider = [Turn(turn.start - 0.25, turn.end + 0.25, None) for turn in turns]
    pairs = zip(recognize(ctc, segments(turns)).words, recognize(ctc, segments(wider)).words, strict=True)
    moved = [abs(a.start - b.start) for one, other in pairs for a in one for b in other if a.text == b.text]
    assert np.median(moved) < 0.03


def test_ctc_stretches_are_heard_as_if_alone(ctc: SpeechModel, turns: list[Turn]) -> None:
    together = recognize(ctc, segments(turns))
    assert together.words == tuple(recognize(ctc, [stretch]).words[0] for stretch in segments(turns))


@pytest.fixture(scope="module")
def masking_ctc(tmp_path_factory: pytest.TempPathFactory) -> SpeechModel:
    """A CTC model of random weights that is exact in batches: it normalizes each frame, and its extractor masks."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    folder = tmp_path_factory.mktemp("ctc")
    shutil.copytree(CTC, folder, dirs_exist_ok=True)
    torch.manual_seed(0)
    config = Wav2Vec2Config.from_pretrained(
        CTC, feat_extract_norm="layer", do_stable_layer_norm=True, num_hidden_layers=1
    )
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"return_attention_mask": True}))
    return load_speech_model(f"hf:{folder}", device="cpu")


def test_ctc_stretches_of_any_length_share_a_batch(masking_ctc: SpeechModel, turns: list[Turn]) -> None:
    passes: list[int] = []
    masking_ctc.model.register_forward_hook(lambda _, __, output: passes.append(len(output.logits)))
    together = recognize(masking_ctc, segments(turns[:4]))
    assert passes == [4] and all(together.words)
    assert together.words == tuple(recognize(masking_ctc, segments([turn])).words[0] for turn in turns[:4])


@pytest.fixture(scope="module")
def plain_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of a few thousand random weights that writes the demo's word pieces, and no timestamps."""
    from transformers import AutoTokenizer, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    folder = tmp_path_factory.mktemp("whisper")
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "encoders" / "text")
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=80,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_target_positions=24,
        decoder_start_token_id=tokenizer.bos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config.max_length = 12
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_model_without_times_hears_each_stretch_alone(plain_whisper: Path, turns: list[Turn]) -> None:
    model = load_speech_model(f"hf:{plain_whisper}", device="cpu")
    assert not model.writes_frames and not model.writes_timestamps
    together = recognize(model, segments(turns[:3]))
    assert together.words == tuple(recognize(model, segments([turn])).words[0] for turn in turns[:3])
    assert all(words[-1].end <= turn.end for words, turn in zip(together.words, turns, strict=False) if words)


def spoken_stretches(languages: str, record: Callable[..., list[Segment]]) -> tuple[list[Segment], list[list[Spoken]]]:
    """A stretch of three to five words for each language, none of which the toy was taught with."""
    random = np.random.default_rng(0)
    said = [
        speak(random.integers(0, 6, random.integers(3, 6)).tolist(), code, seed=10_000 + number)
        for number, code in enumerate(languages.split())
    ]
    return record([waveform for waveform, _ in said]), [words for _, words in said]


@pytest.mark.parametrize("language", ["en", "de"])
def test_words_of_a_whisper_and_their_times(toy: SpeechModel, record: Callable, language: str) -> None:
    stretches, said = spoken_stretches(" ".join([language] * 6), record)
    heard = recognize(toy, stretches)
    assert heard.language == language
    right = [
        [one.text for one in found] == [one.text for one in words]
        for found, words in zip(heard.words, said, strict=True)
    ]
    assert np.mean(right) > 0.8, "it is a toy"
    errors: list[float] = []
    for stretch, found, words, is_right in zip(stretches, heard.words, said, right, strict=True):
        if not is_right:
            continue
        speech = [Span(word.start + stretch.start / RATE, word.end + stretch.start / RATE) for word in words]
        # A pause belongs to one of the words beside it, until voice activity takes it away.
        placed = into_speech(found, speech)
        errors += [abs(a.start - b.start) + abs(a.end - b.end) for a, b in zip(placed, speech, strict=True)]
    assert np.median(errors) < 0.1 and np.mean(np.array(errors) < 0.3) > 0.75


def test_without_alignment_heads_words_lie_between_timestamps(tmp_path: Path, record: Callable) -> None:
    model = changed(tmp_path / "model", alignment_heads=None)
    stretches, said = spoken_stretches("en en en", record)
    heard = recognize(model, stretches, language="en")
    for stretch, found, words in zip(stretches, heard.words, said, strict=True):
        assert [word.text for word in found] == [word.text for word in words]
        errors = [a.start - b.start - stretch.start / RATE for a, b in zip(found, words, strict=True)]
        assert max(map(abs, errors)) < 0.5


def test_windows_in_a_batch_are_as_alone(toy: SpeechModel, record: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    stretches, _ = spoken_stretches("en de en de en de en", record)
    together = recognize(toy, stretches, language="en")
    monkeypatch.setattr(recognition, "BATCH_WINDOWS", 1)
    alone = recognize(toy, stretches, language="en")
    assert texts(together) == texts(alone)
    times = [np.array([(w.start, w.end) for words in one.words for w in words]) for one in (together, alone)]
    assert np.abs(times[0] - times[1]).max() <= 0.021, "a frame of 20 ms where two fit alike"


def test_short_stretches_share_a_window(toy: SpeechModel, record: Callable) -> None:
    """Eight words of a quarter of a second, each with its margins, in windows of three seconds."""
    numbers = [0, 3, 1, 5, 2, 4, 0, 1]
    margin = np.zeros(RATE // 10, np.float32)
    stretches = record(
        [np.concatenate([margin, speak([n], seed=n, lead=0.0)[0][: RATE // 3], margin]) for n in numbers]
    )
    passes = count_windows(toy)
    packed = recognize(toy, stretches, language="en")
    assert sum(passes) == 2
    passes.clear()
    alone = [recognize(toy, [stretch], language="en") for stretch in stretches]
    assert sum(passes) == len(stretches)
    assert (
        texts(packed)
        == [texts(one)[0] for one in alone]
        == ["one", "four", "two", "six", "three", "five", "one", "two"]
    )
    for stretch, words in zip(stretches, packed.words, strict=True):
        assert stretch.start / RATE - 1e-3 <= words[0].start < words[-1].end <= stretch.end / RATE + 1e-3


def test_ten_turns_of_half_a_minute_cost_two_windows(tmp_path: Path, turns: list[Turn]) -> None:
    """By a Whisper with windows of 30 s that finds nothing to write, so that each is heard but once."""
    from transformers import (
        AutoTokenizer,
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    tokenizer = AutoTokenizer.from_pretrained(TONES)
    end, start = tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    marks = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    sizes = {f"{part}_{name}": 1 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    silent = {"suppress_tokens": None, "begin_suppress_tokens": None}
    config = WhisperConfig(vocab_size=len(tokenizer), d_model=8, max_target_positions=24, **marks, **sizes, **silent)
    made = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        made.model.decoder.layer_norm.weight.zero_()
        made.model.decoder.layer_norm.bias.fill_(1.0)
        made.proj_out.weight[end] = 10.0
    no_timestamps = tokenizer.convert_tokens_to_ids("<|notimestamps|>")
    made.generation_config = GenerationConfig(**marks, no_timestamps_token_id=no_timestamps, alignment_heads=[[0, 0]])
    made.save_pretrained(tmp_path)
    WhisperFeatureExtractor().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = load_speech_model(f"hf:{tmp_path}", device="cpu")
    passes = count_windows(model)
    stretches = segments([Turn(3.0 * number, 3.0 * (number + 1), None) for number in range(10)])
    assert texts(recognize(model, stretches)) == [""] * 10
    assert passes == [1]
    recognize(model, segments(turns))
    assert passes[1:] == [1]


def test_the_language_is_detected_once(toy: SpeechModel, record: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    detect = whisper.detect_language
    monkeypatch.setattr(whisper, "detect_language", lambda *args: (asked.append(1), detect(*args))[1])
    stretches, _ = spoken_stretches("de " * 9 + "en", record)
    told: list[str | None] = []
    write = whisper.write
    monkeypatch.setattr(whisper, "write", lambda *args: (told.append(args[-1]), write(*args))[1])
    assert recognize(toy, stretches).language == "de"
    assert len(asked) == 1 and len(told) > 1 and set(told) == {"de"}
    assert recognize(toy, stretches, language="en").language == "en" and len(asked) == 1


def test_languages_that_a_model_does_not_write(toy: SpeechModel, ctc: SpeechModel, tmp_path: Path) -> None:
    assert sorted(toy.languages) == ["de", "en"]
    for model in (toy, ctc):
        model.check_language(None)
    toy.check_language("de")
    with pytest.raises(UsageError, match=r"'fr'.*it knows de, en"):
        toy.check_language("fr")
    with pytest.raises(UsageError, match="writes one language alone and cannot be told 'de'"):
        ctc.check_language("de")
    english = changed(tmp_path / "english", is_multilingual=False)
    english.check_language("en")
    with pytest.raises(UsageError, match="cannot be told 'de'"):
        english.check_language("de")


def test_a_whisper_of_one_language(tmp_path: Path, record: Callable) -> None:
    """Its own settings begin each text, as those of old checkpoints do."""
    tokenizer = load_speech_model(f"hf:{TONES}", device="cpu").tokenizer
    mark = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("en", "transcribe")}
    model = changed(
        tmp_path / "english",
        is_multilingual=False,
        lang_to_id=None,
        task_to_id=None,
        forced_decoder_ids=[[1, mark["en"]], [2, mark["transcribe"]]],
    )
    stretches, said = spoken_stretches("en en", record)
    heard = recognize(model, stretches, language="en")
    assert texts(heard) == [" ".join(word.text for word in words) for words in said]


def test_what_repeats_itself_or_is_no_speech_gives_no_words(toy: SpeechModel, record: Callable) -> None:
    word, _ = speak([0, 1], seed=3)
    heard = recognize(toy, record([word, tone(BUZZ_PITCH, 2.5), hiss(2.0), word]), language="en")
    assert texts(heard) == ["one two", "", "", "one two"]
    assert heard.n_dropped == 2


def test_what_shares_a_window_with_an_invention_is_kept(
    toy: SpeechModel, record: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine stretches in one window, of which the loud one makes the model repeat itself: halves find it."""
    stretches = record([np.full(RATE // 4, 0.9 if n == 5 else n / 100, np.float32) for n in range(9)])
    asked: list[int] = []

    def listen(_: SpeechModel, waveforms: list[np.ndarray], language: str | None) -> tuple[list[Written], str | None]:
        asked.append(len(waveforms))
        return [Written(evenly(said(waveform), len(waveform) / RATE)) for waveform in waveforms], language

    def said(waveform: np.ndarray) -> str:
        if waveform.max() > 0.5:
            return "la " * 40
        return " ".join(f"w{round(float(level) * 100)}" for level in waveform[:: RATE // 4])

    monkeypatch.setattr(recognition, "_listen", listen)
    heard = recognize(toy, stretches)
    assert texts(heard) == ["w0", "w1", "w2", "w3", "w4", "", "w6", "w7", "w8"]
    assert heard.n_dropped == 1 and sum(asked) == 7, "nine, four and five, two and three, one and one"


@pytest.mark.parametrize(
    ("confidence", "no_speech", "doubtful", "invented"),
    [(-0.9, 0.9, False, False), (-1.1, 0.5, True, False), (-1.1, 0.7, True, True), (None, None, False, False)],
)
def test_thresholds(confidence: float | None, no_speech: float | None, doubtful: bool, invented: bool) -> None:
    written = Written(evenly("well I never", 2.0), confidence, no_speech)
    assert (written.is_doubtful, written.is_invented) == (doubtful, invented)
    looping = Written(evenly("thank you " * 20, 2.0), confidence, no_speech)
    assert looping.is_doubtful and looping.is_invented


@given(st.lists(st.text("ab äß今天\n", max_size=6), max_size=8))
def test_words_of_tokens_are_the_words_of_the_text(pieces: list[str]) -> None:
    """Bytes as tokens: characters of several tokens, tokens without a character, and words of many."""
    data = "".join(pieces).encode()

    class Bytes:
        def decode(self, tokens: Sequence[int]) -> str:
            return bytes(tokens).decode(errors="replace")

    times = [(float(n), n + 1.0) for n in range(len(data))]
    words = words_of(Bytes(), list(data), times)
    spelled = "".join(pieces).replace("今", " 今 ").replace("天", " 天 ").split()
    assert [word.text for word in words] == spelled
    place = 0
    for word in words:
        place = data.index(word.text.encode(), place)
        after = place + len(word.text.encode())
        assert (word.start, word.end) == (place, after)
        place = after


def test_every_frame_goes_to_one_token_in_their_order() -> None:
    scores = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1]], float)
    assert whisper.first_frames(scores) in ([0.0, 2.0, 4.0], [0.0, 3.0, 4.0])
    assert whisper.first_frames(np.zeros((4, 2))) == [0.0, 0.5, 1.0, 1.5]


@given(st.integers(1, 4), st.integers(4, 7), st.randoms(use_true_random=False))
def test_no_other_way_to_give_frames_to_tokens_is_better(n_tokens: int, n_frames: int, random: Random) -> None:
    scores = np.array([[random.random() for _ in range(n_frames)] for _ in range(n_tokens)])

    def worth(starts: Sequence[float]) -> float:
        borders = [*map(int, starts), n_frames]
        return float(sum(scores[token, a:b].sum() for token, (a, b) in enumerate(pairwise(borders))))

    every = [(0, *rest) for rest in combinations(range(1, n_frames), n_tokens - 1)]
    assert worth(whisper.first_frames(scores)) == pytest.approx(max(map(worth, every)))


def test_in_bfloat16(toy: SpeechModel, ctc: SpeechModel, record: Callable, turns: list[Turn]) -> None:
    stretches, _ = spoken_stretches("en de", record)
    lower = load_speech_model(f"hf:{TONES}", device="cpu", precision="bf16")
    for language in (None, "en"):
        assert texts(recognize(lower, stretches[:1], language=language)) == texts(recognize(toy, stretches[:1]))
    lower = load_speech_model(f"hf:{CTC}", device="cpu", precision="bf16")
    pairs = zip(texts(recognize(lower, segments(turns))), texts(recognize(ctc, segments(turns))), strict=True)
    assert np.mean([SequenceMatcher(None, a, b).ratio() for a, b in pairs]) > 0.9


QUIET = """
import sys
from pathlib import Path
import numpy as np, soundfile
from lpgnet.pipeline.corpora.audio import Segment
from lpgnet.pipeline.recordings.recognition import recognize
from lpgnet.pipeline.recordings.speech_models import load_speech_model
from tests.pipeline.recordings.tones import RATE, speak
soundfile.write(sys.argv[1], speak([0, 1, 2], seed=1)[0], RATE)
stretch = Segment(sys.argv[1], 0, soundfile.info(sys.argv[1]).frames, 0, RATE)
for name in sys.argv[2:]:
    heard = recognize(load_speech_model(f"hf:{name}", device="cpu", precision="auto"), [stretch])
    print([word.text for word in heard.words[0]])
"""


def test_no_warning_of_the_library_reaches_people(tmp_path: Path, plain_whisper: Path) -> None:
    """Neither from old settings, nor from missing masks; in a process of its own, since some are told once."""
    changed(
        tmp_path / "old", forced_decoder_ids=[[1, None], [2, 292]], lang_to_id=None, task_to_id=None, suppress_tokens=[]
    )
    changed(tmp_path / "no_heads", alignment_heads=None)
    names = [TONES, tmp_path / "old", tmp_path / "no_heads", plain_whisper, CTC]
    ended = subprocess.run(
        [sys.executable, "-c", QUIET, str(tmp_path / "a.wav"), *map(str, names)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("\n") == len(names)


def test_an_encoder_without_a_head_is_refused() -> None:
    with pytest.raises(PipelineError, match="writes no text"):
        load_speech_model(f"hf:{DEMO / 'encoders' / 'text'}", device="cpu")


def test_a_head_that_is_not_in_the_file_is_not_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(CTC, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    weights = load_file(path)
    save_file({k: v for k, v in weights.items() if not k.startswith("lm_head")}, path, metadata={"format": "pt"})
    with pytest.raises(PipelineError, match="lacks 2 weights"):
        load_speech_model(f"hf:{tmp_path / 'model'}", device="cpu")


def test_a_name_without_a_family() -> None:
    with pytest.raises(PipelineError, match="hf:openai/whisper-small"):
        load_speech_model("whisper-small", device="cpu")
