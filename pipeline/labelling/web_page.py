"""The web page for labelling recordings, which only this machine can reach by default."""

from __future__ import annotations

import html
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.labelling.page_files import PageFiles
from lpgnet.pipeline.labelling.page_guard import RESULTS
from lpgnet.pipeline.labelling.page_process import Job, LabellingProcess

if TYPE_CHECKING:
    import gradio

EXTRA = "serve"
# Recordings that may wait for the one that is labelled.
MOST_WAITING = 16
GONE = "This file is no longer on the server: add it again."
# Local fonts only: the page makes no requests to other addresses.
FONTS = ["system-ui", "sans-serif"]
# Elements of the page that show the report, and the links to download files.
OUTPUTS = ("report", "files")
STYLE = """
#report iframe { width: 100%; height: 85vh; border: 0; }
#files a {
  display: flex; justify-content: space-between; padding: .6rem 1rem; margin-bottom: .5rem; text-decoration: none;
  background: var(--background-fill-secondary); color: var(--body-text-color);
}
#files a:hover { background: var(--border-color-primary); }
#files a span { color: var(--link-text-color); }
"""


def make_page(process: LabellingProcess, files: PageFiles) -> gradio.Blocks:
    """Make the page, which takes a recording and a transcript and gives a report and files.

    Args:
        process: labels.
        files: the uploads and results.

    Raises:
        PipelineError: Gradio is not installed.
    """
    gr = import_gradio()
    label, own, end = _handlers(gr, process, files)
    page: gradio.Blocks
    with gr.Blocks(title="LPGNet", analytics_enabled=False) as page:
        gr.Markdown("# Emotions in conversation\nDrop a recording here, and its transcript if there is one.")
        gr.Markdown(_paragraphs(process.about_model), elem_id="about", sanitize_html=False, latex_delimiters=[])
        with gr.Row():
            recording = gr.File(label="recording", elem_id="recording")
            transcript = gr.File(label="transcript (SRT, WebVTT, TextGrid, CSV, ...)", elem_id="transcript")
        button = gr.Button("Label", variant="primary", elem_id="label")
        # What they show is made here; Gradio's component for HTML would need the right to evaluate strings.
        outputs = [gr.Markdown(elem_id=name, sanitize_html=False, latex_delimiters=[]) for name in OUTPUTS]
        button.click(label, [recording, transcript], outputs, api_visibility="private", concurrency_limit=1)
        for box in (recording, transcript):
            _take_uploads_only(box, files)
            box.upload(own, box, None, queue=False, show_progress="hidden", api_visibility="private")
        page.unload(end)
    page.queue(max_size=MOST_WAITING, api_open=False)
    return page


def _handlers(gr: ModuleType, process: LabellingProcess, files: PageFiles) -> tuple[Callable[..., Any], ...]:
    """Make what the page calls: for its button, for an upload, and at the end of a session."""
    # Gradio recognizes the parameter by this default.
    bar = gr.Progress()

    def label(request: Any, recording: str | None, transcript: str | None, progress: Any = bar) -> tuple[str, str]:
        """Label an upload, and return the HTML of the report and of the links to the files."""
        if recording is None:
            raise gr.Error("Add a recording first.", print_exception=False)
        if not all(files.is_upload(path) for path in (recording, transcript) if path is not None):
            raise gr.Error(GONE, print_exception=False)
        own(request, recording)
        target = files.new_results(request.session_hash)
        job = Job(Path(recording), Path(transcript) if transcript else None, target)
        try:
            made = process.label(job, lambda share, step: progress(share, desc=step))
        except PipelineError as error:
            files.disown(request.session_hash, target)
            raise gr.Error(html.escape(str(error)), print_exception=False) from None
        # The session may have ended by now.
        if not files.owns(request.session_hash, target):
            shutil.rmtree(target, ignore_errors=True)
        return _frame(made[0]), _links(made)

    def own(request: Any, upload: str | None) -> None:
        """Note whose an upload is."""
        if upload is not None:
            files.own(request.session_hash, Path(upload).parent)

    def end(request: Any) -> None:
        """Remove what a session brought and got."""
        files.end(request.session_hash)

    # Gradio recognizes the parameter by this annotation.
    for function in (label, own, end):
        function.__annotations__ = {"request": gr.Request}
    return label, own, end


def _take_uploads_only(box: Any, files: PageFiles) -> None:
    """Refuse other files: Gradio would read any that a request names, and fetch what is at any address."""
    gr = import_gradio()

    async def check(path: str) -> str:
        if not files.is_upload(path):
            raise gr.Error(GONE, print_exception=False)
        return path

    # The one function through which Gradio takes in what a request names.
    box.async_move_resource_to_block_cache = check


def _frame(report: Path) -> str:
    # Its script gives the corrected table to download.
    may = "allow-scripts allow-downloads"
    return f'<div><iframe title="report" sandbox="{may}" src="{_address(report)}"></iframe></div>'


def _paragraphs(lines: Sequence[str]) -> str:
    # In one block of HTML, so that names which the model brings are no Markdown.
    return f"<div>{''.join(f'<p>{html.escape(line)}</p>' for line in lines)}</div>"


def _links(files: Sequence[Path]) -> str:
    """Links to download the files, each with its size."""
    links = (
        f'<a href="{_address(path)}" download>{html.escape(path.name)}<span>{_size(path)} &#8675;</span></a>'
        for path in files
    )
    return f"<div>{''.join(links)}</div>"


def _address(result: Path) -> str:
    return html.escape(f"{RESULTS[1:]}/{result.parent.name}/{quote(result.name)}")


def _size(path: Path) -> str:
    kilobytes = path.stat().st_size / 1e3
    return f"{kilobytes:.1f} KB" if kilobytes < 1000 else f"{kilobytes / 1e3:.1f} MB"


def import_gradio() -> ModuleType:
    """Import Gradio.

    Raises:
        PipelineError: it is not installed.
    """
    try:
        import gradio
    except ImportError:
        raise PipelineError(f"the page needs the extra '{EXTRA}': pip install 'lpgnet[{EXTRA}]'") from None
    return gradio
