"""`python -m lpgnet STAGE` does what `lpgnet STAGE` does."""

import sys

from lpgnet.pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main())
