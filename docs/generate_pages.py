"""Hooks of the documentation site: pages made from the README and from the commands' own help, never by hand."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from lpgnet.pipeline.cli import STAGES, run_stage
from lpgnet.pipeline.config import Config, ExportConfig, PredictionConfig, ServeConfig, make_parser

ROOT = Path(__file__).parents[1]
# What the stages of an experiment share; the other configured commands have fields of their own.
CONFIGURED = {"predict": PredictionConfig, "serve": ServeConfig, "export": ExportConfig}
ACTIONS = {
    "encoders": ["list", "check"],
    "cache": ["info", "verify", "repair", "gc", "compact", "export", "import"],
}
LINK = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s#]+)(?P<anchor>#[^()\s]*)?\)")


def on_startup(command: str, dirty: bool) -> None:
    """Link the packages together as they are installed: the API reference reads files, and does not import them."""
    package = ROOT / "build" / "docs" / "lpgnet"
    package.mkdir(parents=True, exist_ok=True)
    for name in ("cache", "feature_extractors", "model", "pipeline", "lpgnet/__init__.py"):
        link = package / Path(name).name
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT / name)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made at build time."""
    made = {"index.md": home(), "commands.md": commands(), "configuration.md": configuration()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository that the site does not have into plain text."""
    there = {file.src_uri for file in files if not file.inclusion.is_excluded()}
    folder = Path(page.file.src_uri).parent

    def replace(match: re.Match[str]) -> str:
        target = match["target"]
        known = ":" in target or os.path.normpath(folder / target) in there
        return match[0] if known else match["text"]

    return LINK.sub(replace, markdown)


def home() -> str:
    """The README, with its links seen from the folder of the pages."""
    return (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")


def commands() -> str:
    """A section for every subcommand of `lpgnet`."""
    sections = [f"## lpgnet {stage}\n\n{purpose}\n\n{_command(stage)}" for stage, purpose in STAGES.items()]
    head = "# Commands\n\nMade from the commands' own help texts. Exit codes: 0 done, 1 failed, 2 wrong usage."
    return "\n\n".join([head, *sections])


def configuration() -> str:
    """Every field of an experiment's configuration."""
    head = (
        "# Configuration\n\nThe fields of an experiment's YAML file, made from the parser itself. On the command line, "
        "`--section.field VALUE` overrides one."
    )
    return "\n\n".join([head, *_tables(Config)])


def _command(stage: str) -> str:
    if stage in CONFIGURED:
        return "\n\n".join(_tables(CONFIGURED[stage]))
    if stage in ("prepare", "features", "train", "evaluate", "crossval", "search"):
        return "Takes `--config FILE.yaml` and every field of the [configuration](configuration.md)."
    texts = [_help(stage), *(_help(stage, action) for action in ACTIONS.get(stage, []))]
    return "\n\n".join(f"```text\n{text}\n```" for text in texts)


def _help(stage: str, *action: str) -> str:
    printed = StringIO()
    with redirect_stdout(printed), patch.dict(os.environ, {"COLUMNS": "90"}):
        try:
            run_stage(stage, [*action, "--help"])
        except SystemExit as end:
            if end.code:
                raise
    return printed.getvalue().strip()


def _tables(section: type) -> Iterator[str]:
    """A table of fields for each part of a configuration, under the part's name."""
    parts: dict[str, list[str]] = {}
    for action in make_parser("", section)._actions:
        if action.dest in ("help", "config", "print_config", "debug") or action.default == "==SUPPRESS==":
            continue
        part, _, name = action.dest.rpartition(".")
        parts.setdefault(part, []).append(_row(name, action.default, action.help or ""))
    for part, rows in parts.items():
        title = f"### {part}\n\n" if part else ""
        yield title + "\n".join(["| field | default | meaning |", "|---|---|---|", *rows])


def _row(name: str, default: object, meaning: str) -> str:
    shown = "null" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
    return f"| `{name}` | `{shown}` | {meaning.replace('|', chr(92) + '|')} |"
