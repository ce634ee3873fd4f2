"""Take the pictures of the README and the site from the demo's own outputs: run it after `make demo`.

    python docs/make_pictures.py [--report work/demo/timelines/recording.html]

Needs Chromium and the Python package playwright.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, sync_playwright

DOCS = Path(__file__).parent
CHROMIUM = "/usr/bin/chromium"
SIZE = ViewportSize(width=1200, height=640)


def main() -> None:
    """Save `docs/timeline.png`."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--report", type=Path, default=Path("work/demo/timelines/recording.html"))
    parser.add_argument("--chromium", default=CHROMIUM, help=f"the browser (default: {CHROMIUM})")
    arguments = parser.parse_args()
    if not arguments.report.is_file():
        raise SystemExit(f"{arguments.report}: no such report; run `make demo` first, or name one with --report")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
        take_timeline(browser.new_page(viewport=SIZE), arguments.report)
        browser.close()


def take_timeline(page: Page, report: Path) -> None:
    """Save the top of a timeline report."""
    page.goto(report.resolve().as_uri())
    page.wait_for_load_state("networkidle")
    page.screenshot(path=DOCS / "timeline.png")


if __name__ == "__main__":
    main()
