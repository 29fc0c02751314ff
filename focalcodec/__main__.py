"""`python -m focalcodec` runs the command `focalcodec`; torchrun needs this form."""

import sys

from focalcodec.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
