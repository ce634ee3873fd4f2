"""How many hostile inputs the tests try: a few hundred in all, or as many as `LPGNET_HOSTILE` says."""

import os

CASES = 300


def cases(share: float) -> int:
    """Give a test its part of all the cases, at least one.

    Args:
        share: of all hostile tests together, from 0 to 1.
    """
    return max(1, round(share * int(os.environ.get("LPGNET_HOSTILE", CASES))))
