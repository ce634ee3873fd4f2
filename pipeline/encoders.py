"""The `lpgnet encoders` command: list the encoders by name, or check one against the contract."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence

from lpgnet.feature_extractors import check_encoder, list_encoders
from lpgnet.feature_extractors.spec import PRECISIONS
from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import show, show_table
from lpgnet.pipeline.common.processes import resolve_device


def main(arguments: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    parser = ArgumentParser(prog="lpgnet encoders", description=__doc__)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="names that match a pattern; hf: takes any model of the hub or a folder")
    listing.add_argument("pattern", nargs="?", default="*", help="such as wavlm or hf:*base*")
    check = actions.add_parser("check", help="try an encoder on synthetic input, one verdict a line")
    check.add_argument("name", help="family:model")
    check.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    check.add_argument("--precision", default="fp32", choices=PRECISIONS, help="as in encoders.audio (default: fp32)")
    check.add_argument(
        "--batch_budget",
        type=_budget,
        help="padded samples or tokens in the batches that are tried (default: a batch of two items and one of all)",
    )
    check.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    return _list(options.pattern) if options.action == "list" else _check(options)


def _list(pattern: str) -> int:
    names = list_encoders(pattern)
    for name in names:
        show(name)
    return 0 if names else 1


def _budget(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise ArgumentTypeError(f"{text!r} is no whole number of samples or tokens")
    return int(text)


def _check(options: Namespace) -> int:
    device = resolve_device(options.device)
    results = check_encoder(options.name, device=device, precision=options.precision, batch_budget=options.batch_budget)
    rows = [("ok" if result.passed else "FAILS", result.check, result.detail) for result in results]
    show_table(options.name, ("verdict", "clause", "measured"), rows)
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    module_main("encoders")
