"""The configuration: files, overrides, and one clear line for every mistake."""

import pickle
import re
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lpgnet.model import CONFIG_TYPES
from lpgnet.pipeline import cli
from lpgnet.pipeline.common.voice_activity import VoiceActivityConfig
from lpgnet.pipeline.config import (
    RENAMED,
    Config,
    PredictionConfig,
    check_prediction,
    config_from,
    known_keys,
    make_parser,
    parse_config,
)
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.model_config import FILLED_IN, ModelConfig
from lpgnet.pipeline.presets import preset_file, preset_names
from lpgnet.pipeline.recordings.config import TurnsConfig
from lpgnet.pipeline.reports.config import PageConfig

CONFIG_FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(CONFIG_FOLDER.glob("**/*.yaml"))


BILLION_LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


def write(folder: Path, text: str) -> str:
    path = folder / "x.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path: Path) -> None:
    base = ["--config", str(CONFIG_FOLDER / "iemocap.yaml"), "--preset", "null"] if path.parent != CONFIG_FOLDER else []
    config = parse_config("train", [*base, "--config", str(path)], Config)
    assert len(config.classes) >= 4
    assert not base or config != parse_config("train", base, Config), "an overlay changes something"


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "training: {epochs: 3, seed: 5}\nencoders: {audio: {layers: [1, 2]}}\n")
    config = parse_config("train", ["--config", path, "--training.seed", "7"], Config)
    assert (config.training.epochs, config.training.seed) == (3, 7)
    assert config.encoders.audio.layers == [1, 2]


def test_a_preset_is_beneath_all_that_is_given(tmp_path: Path) -> None:
    path = write(tmp_path, "preset: lpgnet-plus\nmodel: {hidden_size: 64}\n")
    config = parse_config("train", ["--config", path, "--model.dropout", "0.1"], Config)
    beneath = yaml.safe_load(preset_file("lpgnet-plus").read_text())["model"]
    assert (config.model.hidden_size, config.model.dropout) == (64, 0.1)  # type: ignore[attr-defined]
    assert config.model.distance_bias == beneath["distance_bias"]  # type: ignore[attr-defined]
    assert config == parse_config("train", ["--model.dropout=0.1", "--preset=lpgnet-plus", "--config", path], Config)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_gives_its_own_values_where_nothing_is_given(name: str) -> None:
    by_name = parse_config("train", ["--preset", name], Config)
    by_file = parse_config("train", ["--config", str(preset_file(name))], Config)
    assert replace(by_name, preset=None) == by_file != Config()


def test_a_later_preset_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    path = write(tmp_path, "preset: lpgnet-plus\n")
    assert parse_config("train", ["--config", path, "--preset", "null"], Config) == Config()
    assert parse_config("train", ["--preset", "null", "--config", path], Config).preset == "lpgnet-plus"


def test_what_is_printed_has_the_values_of_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_config("train", ["--preset", "lpgnet-plus", "--model.hidden_size", "8", "--print_config"], Config)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["model"]["hidden_size"], printed["model"]["distance_bias"]) == (8, True)


def test_the_help_names_the_presets() -> None:
    assert "lpgnet-plus" in cli.usage()


def test_round_trip_through_yaml() -> None:
    config = parse_config("train", ["--name", "x", "--labels", "{a: b, c: null}"], Config)
    assert config_from(yaml.safe_load(yaml.safe_dump(asdict(config)))) == config
    assert config.classes == ["b"]


def test_the_ranges_of_dimensions_are_not_the_users_to_give() -> None:
    config = parse_config("train", ["--model.dimensions", "[valence]"], Config)
    assert config.model.dimensions == ["valence"]  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"unrecognized arguments: --model\.ranges"):
        parse_config("train", ["--model.ranges", "{valence: [1, 5]}"], Config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainign: {epochs: 3}", r"x.yaml: unknown key 'trainign'; did you mean 'training'\?"),
        ("training: {epoch: 3}", r"x.yaml: unknown key 'training.epoch'; did you mean 'epochs'\?"),
        ("training: {epochs: many}", r"x.yaml: key 'training.epochs': 'many' is not a whole number"),
        ("encoders: {audio: {pooling: men}}", r"x.yaml: .*encoders.audio.pooling"),
        ("training: {epochs: 0}", r"key 'training.epochs': 0 must be at least 1"),
        ("splits: {dev_share: 1.5}", r"key 'splits.dev_share': 1.5"),
        ("name: ../x", r"key 'name'"),
        ("a: [", r"x.yaml, line 1: is not YAML"),
        (
            "model: {dimensions: [mood]}",
            r"x.yaml: key 'model.dimensions': 'mood' is not one of valence, arousal, dominance",
        ),
        ("model: {dimensions: [valence, valence]}", r"x.yaml: section 'model': dimensions is .*: give each once"),
        ("3", r"x.yaml: must hold keys and values"),
        ("training: null", r"x.yaml: key 'training': is null; give a value, or leave the key out"),
        ("labels: null", r"x.yaml: key 'labels': is null"),
        ("training: 3", r"x.yaml: key 'training': is 3; give keys and values"),
        ("crossval: {models: lpgnet}", r"x.yaml: key 'crossval.models': is 'lpgnet'; give a list"),
        ("training: {learning_rate: .nan}", r"x.yaml: key 'training.learning_rate': nan must be above 0"),
        ("training: {learning_rate: -1}", r"x.yaml: key 'training.learning_rate': -1 must be above 0"),
        ("splits: {folds: 0}", r"x.yaml: key 'splits.folds': 0 must be at least 2"),
        ("preset: lpgnet-pus", r"x.yaml: key 'preset': no preset is called 'lpgnet-pus'; did you mean 'lpgnet-plus'\?"),
        ("preset: ../iemocap", r"x.yaml: key 'preset': no preset is called '../iemocap'; known: lpgnet-plus"),
        ("preset: 3", r"x.yaml: key 'preset': is 3; give a text, or null$"),
        (
            "crossval: {presets: lpgnet-plus}",
            r"key 'crossval.presets': is 'lpgnet-plus'; give a list, such as \[a, b\]",
        ),
        ("crossval: {presets: [null]}", r"key 'crossval.presets': is \[None\]; give a list of texts, such as \[a, b\]"),
        (
            "encoders: {audio: {layers: x}}",
            r"is x; give one of last, all, or a whole number, or a list of whole numbers$",
        ),
        ("labels: {a: [b]}", r'x.yaml: key "labels'),
        ("training: {seed: -1}", r"x.yaml: key 'training.seed': -1 must not be negative"),
        ('name: "a\\0b"', r"x.yaml: key 'name': holds a null character"),
        (BILLION_LAUGHS, r"x.yaml, line 5: its aliases and values are too many; at most"),
        ("a: &a [*a]", r"x.yaml, line 1: its aliases and values are too many"),
        ("a: " + "[" * 100_000, r"x.yaml, line 1: is nested too deeply; at most"),
        ("training: {epochs: 1" + "0" * 5000 + "}", r"x.yaml.*: is not YAML .*4300 digits"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_config("train", ["--config", write(tmp_path, text)], Config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--training.epoch", "3"], r"command line: .*did you mean 'training.epochs'\?"),
        (["--training.epochs", "x"], r"command line: key 'training.epochs': 'x' is not a whole number"),
        (
            ["--preset", "lpgnet"],
            r"command line: key 'preset': no preset is called 'lpgnet'; did you mean 'lpgnet-plus'",
        ),
        (["--crossval.presets", "lpgnet-plus"], r"key 'crossval.presets': is lpgnet-plus; give a list of texts"),
        (["--training.patience", "x"], r"command line: key 'training.patience': 'x' is not a whole number$"),
        (["--preset"], r"command line: .*--preset"),
        (["--config", "nowhere.yaml"], r"nowhere.yaml: no such config file"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_config("train", arguments, Config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("section", [Config, PredictionConfig])
def test_every_field_has_a_help_text(section: type) -> None:
    parser = make_parser("x", section)
    texts = {action.dest: action.help for action in parser._actions}
    for key in known_keys(section):
        if key in texts:
            assert texts[key], f"{key} has no help"


@pytest.mark.parametrize("section", [Config, PredictionConfig])
def test_no_type_of_a_field_is_a_text_that_takes_time_to_evaluate(section: type) -> None:
    for entry in fields(section):
        assert not isinstance(entry.type, str), f"{section.__name__}.{entry.name}"
        if is_dataclass(entry.type):
            test_no_type_of_a_field_is_a_text_that_takes_time_to_evaluate(entry.type)


def test_positional_recordings() -> None:
    config = parse_config("predict", ["a.wav", "b.wav", "--model", "run"], PredictionConfig)
    assert config.recordings == ["a.wav", "b.wav"]
    assert config.model == "run"


def test_the_model_section_has_every_field_of_the_networks_and_no_other() -> None:
    section = {entry.name for entry in fields(ModelConfig)} - {"type", "modalities"}
    networks = {entry.name for kind in CONFIG_TYPES.values() for entry in fields(kind)}
    assert section == networks - FILLED_IN
    assert {"detach_teacher", "temperature_squared"} <= section


@pytest.mark.parametrize("kind", CONFIG_TYPES)
def test_what_is_set_reaches_the_network_and_nothing_else(kind: str) -> None:
    section = ModelConfig(type=kind)  # type: ignore[arg-type]
    assert section.settings() == {}
    assert parse_config("train", ["--model.type", kind, "--model.dropout", "0.25"], Config).model.settings() == {
        "dropout": 0.25
    }
    config = parse_config("train", ["--model.type", kind, "--model.kernel_size", "5"], Config)
    assert config.model.settings() == ({"kernel_size": 5} if kind == "lpgnet" else {})


@pytest.mark.parametrize("kind", CONFIG_TYPES)
def test_dimensions_need_no_range_before_the_corpus_is_read(kind: str) -> None:
    options = ["--model.type", kind, "--model.dimensions", "[valence, arousal]"]
    assert parse_config("train", options, Config).model.settings() == {"dimensions": ["valence", "arousal"]}
    with pytest.raises(UsageError, match=r"section .model.: dimensions is .*: give each once"):
        parse_config("train", [*options[:2], "--model.dimensions", "[valence, valence]"], Config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.hidden_size", "-3"], "hidden_size is -3: give a whole number of at least 1"),
        (["--model.hidden_size", "6"], "num_attention_heads is 4 and must divide hidden_size, 6"),
        (["--crossval.workers", "0"], "command line: key 'crossval.workers': 0 must be at least 1"),
        (["--features.batch_budget", "-1"], "key 'features.batch_budget': -1 must not be negative"),
        (["--training.learning_rate", "nan"], "key 'training.learning_rate': nan must be above 0"),
        (["--evaluation.missing_shares", "[0.5, 2]"], "evaluation.missing_shares"),
    ],
)
def test_a_number_out_of_its_range_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_config("train", arguments, Config)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_names_the_new_one(tmp_path: Path, old: str, new: str) -> None:
    for arguments in (["--config", write(tmp_path, f"{old}: 1")], [f"--{old}", "1"]):
        with pytest.raises(UsageError, match=f"{old}.*it is now '{new}'"):
            parse_config("predict", arguments, PredictionConfig)
    assert new in known_keys(PredictionConfig)


def test_numbers_are_plain_ones_that_other_processes_know() -> None:
    config = parse_config("train", ["--training.epochs", "3", "--training.ema_decay", "0.5"], Config)
    assert type(config.training.epochs) is int
    assert type(config.training.ema_decay) is float
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"turns": TurnsConfig(max_turn=0.5)}, "key 'turns.max_turn': 0.5 must be at least 1"),
        ({"turns": TurnsConfig(min_turn=-1)}, "key 'turns.min_turn': -1 must not be negative"),
        ({"vad": VoiceActivityConfig(threshold=1.0)}, "key 'vad.threshold': 1.0 must be above 0 and below 1"),
        ({"page": PageConfig(embed_megabytes=-1.0)}, "key 'page.embed_megabytes': -1.0 must not be negative"),
        ({"window": 0}, "key 'window': 0 must be at least 1"),
        ({"workers": -1}, "key 'workers': -1 must not be negative"),
    ],
)
def test_python_code_is_held_to_the_same_ranges(settings: dict[str, Any], message: str) -> None:
    check_prediction(PredictionConfig())
    with pytest.raises(UsageError, match=re.escape(message)):
        check_prediction(PredictionConfig(**settings))


def test_home_is_meant_by_its_sign_in_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "x.yaml").write_text("work: ~/work\nfeatures: {store: ~/store}\n")
    config = parse_config("train", ["--config", str(tmp_path / "x.yaml")], Config)
    assert (config.work, config.features.store) == (str(tmp_path / "work"), str(tmp_path / "store"))


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_patience_would_cut_a_schedule_short(schedule: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"training: {{patience: 10, schedule: {schedule}}}")
    told = rf"x\.yaml: key 'training\.patience': .*training\.schedule {schedule} .*leave patience out, or set"
    with pytest.raises(UsageError, match=told):
        parse_config("train", ["--config", str(path)], Config)
    constant = ["--config", str(path), "--training.schedule", "constant"]
    assert parse_config("train", constant, Config).training.patience == 10
    assert parse_config("evaluate", ["--config", str(path)], Config).training.patience == 10, "as runs of before have"
    assert (
        parse_config("train", ["--config", str(path), "--training.patience", "null"], Config).training.patience is None
    )
