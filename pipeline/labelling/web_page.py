"""The web page for labelling recordings, which only this machine can reach by default."""

from __future__ import annotations

import html
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lpgnet.pipeline.config import ServeConfig
from lpgnet.pipeline.corpora.audio import describe
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline
from lpgnet.pipeline.recordings.media import decodable
from lpgnet.pipeline.reports.timeline import HTML, check_formats, output_paths, write_timeline

if TYPE_CHECKING:
    import gradio

EXTRA = "serve"
# How often files are checked, and at what age they are removed (seconds): longer than a full queue of the longest
# recordings takes. All of them are removed when the server stops.
CLEANING_SECONDS, KEPT_SECONDS = 60, 24 * 3600
# Local fonts only: the page makes no requests to other addresses.
_FONTS = ["system-ui", "sans-serif"]


def temporary_files() -> TemporaryDirectory[str]:
    """Make the folder for uploads and outputs, removed at the end; call this before Gradio is imported."""
    folder = TemporaryDirectory(prefix="lpgnet-serve-", ignore_cleanup_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = folder.name
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    return folder


@dataclass(frozen=True)
class Served:
    """The outputs of one recording: the report, and the files to download."""

    report: str
    files: list[Path]


@dataclass(frozen=True)
class Labeller:
    """Labels uploaded recordings within the limits of the configuration.

    Attributes:
        folder: folder for temporary files.
    """

    pipeline: EmotionPipeline
    config: ServeConfig
    folder: str

    def label(self, recording: Path, transcript: Path | None, tell: Callable[[float, str], None]) -> Served:
        """Label a recording and write its outputs to a new temporary folder.

        Args:
            recording: an audio or video file.
            transcript: its transcript, or None.
            tell: is called with the share that is done and the next step.

        Raises:
            PipelineError: the recording is too large or too long, or cannot be labelled.
        """
        tell(0.05, "checking the recording")
        sweep(Path(self.folder))
        self._check(recording)
        tell(0.2, "finding and labelling turns")
        timeline = self.pipeline.label_recording(recording, transcript)
        tell(0.9, "writing the report")
        # Users of the page must not see this machine's folders.
        timeline = replace(
            timeline, model=Path(timeline.model).name, choices=_without_folders(timeline.choices, self.folder)
        )
        folder = Path(mkdtemp(dir=self.folder))
        formats = tuple(dict.fromkeys((*check_formats(self.config.prediction.formats), HTML)))
        settings = self.config.prediction
        files = write_timeline(timeline, folder, formats, settings.page, csv_raw=settings.csv_raw)
        report = output_paths(folder, timeline.name, formats)[HTML].read_text(encoding="utf-8")
        return Served(report, files)

    def _check(self, recording: Path) -> None:
        size = recording.stat().st_size / 1e6
        if size > self.config.max_megabytes:
            raise PipelineError(f"{recording.name}: has {size:.0f} MB, the limit is {self.config.max_megabytes:g} MB")
        with decodable(recording) as audio:
            minutes = describe(str(audio)).seconds / 60
        if minutes > self.config.max_minutes:
            raise PipelineError(
                f"{recording.name}: lasts {minutes:.0f} min, the limit is {self.config.max_minutes:g} min"
            )


def _without_folders(lines: Sequence[str], folder: str) -> tuple[str, ...]:
    """Shorten the paths of files in the temporary folder to their names."""
    return tuple(" ".join(Path(w).name if w.startswith(folder) else w for w in line.split()) for line in lines)


def sweep(folder: Path) -> None:
    """Remove files that have been in the temporary folder for too long."""
    for entry in folder.iterdir():
        if time.time() - entry.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)


def make_page(labeller: Labeller) -> gradio.Blocks:
    """Make the page, which takes a recording and a transcript and gives a report and files.

    Raises:
        PipelineError: Gradio is not installed.
    """
    gr = _gradio()

    # Gradio recognizes the parameter by this default.
    bar = gr.Progress()

    def label(recording: str | None, transcript: str | None, progress: Any = bar) -> tuple[str, list[str]]:
        def tell(share: float, step: str) -> None:
            progress(share, desc=step)

        if recording is None:
            raise gr.Error("Add a recording first.", print_exception=False)
        try:
            served = labeller.label(Path(recording), Path(transcript) if transcript else None, tell)
        except Exception as error:
            raise gr.Error(_for_people(error, labeller.folder), print_exception=False) from error
        frame = f'<iframe title="report" sandbox="allow-scripts" srcdoc="{html.escape(served.report)}"></iframe>'
        return frame, [str(path) for path in served.files]

    page: gradio.Blocks
    with gr.Blocks(title="LPGNet", delete_cache=(CLEANING_SECONDS, KEPT_SECONDS), analytics_enabled=False) as page:
        gr.Markdown("# Emotions in conversation\nDrop a recording here, and its transcript if there is one.")
        with gr.Row():
            recording = gr.File(label="recording", elem_id="recording")
            transcript = gr.File(label="transcript (SRT, WebVTT, TextGrid, CSV, ...)", elem_id="transcript")
        button = gr.Button("Label", variant="primary", elem_id="label")
        report = gr.HTML(elem_id="report")
        files = gr.Files(label="files", elem_id="files")
        button.click(label, [recording, transcript], [report, files], api_visibility="private", concurrency_limit=1)
    return page


def _for_people(error: Exception, folder: str) -> str:
    """Return an error's message without this machine's folders; unexpected errors stay hidden."""
    if not isinstance(error, PipelineError | ValueError):
        return "The recording could not be labelled."
    return _without_folders([str(error).replace(":", " :", 1) if folder in str(error) else str(error)], folder)[0]


def _gradio() -> ModuleType:
    try:
        import gradio
    except ImportError:
        raise PipelineError(f"the page needs the extra '{EXTRA}': pip install 'lpgnet[{EXTRA}]'") from None
    return gradio


def launch(page: gradio.Blocks, config: ServeConfig) -> str:
    """Start serving the page and return its address.

    The page serves only its own uploads and outputs, and no other folder of this machine.

    Raises:
        PipelineError: the port is in use.
    """
    try:
        return _launch(page, config)
    except OSError:
        raise PipelineError(f"port {config.port} is in use; choose another with --port (0 for any free one)") from None


def _launch(page: gradio.Blocks, config: ServeConfig) -> str:
    gr = _gradio()
    _, address, _ = page.queue(max_size=16).launch(
        server_name=config.host,
        server_port=config.port or None,
        share=False,
        quiet=True,
        inbrowser=False,
        max_file_size=round(config.max_megabytes * 1e6),
        allowed_paths=[],
        enable_monitoring=False,
        footer_links=[],
        theme=gr.themes.Default(font=_FONTS, font_mono=["monospace"]),
        css="#report iframe { width: 100%; height: 85vh; border: 0; }",
        prevent_thread_lock=True,
    )
    return str(address)
