"""`python -m focalcodec` is `focalcodec`; torchrun starts it by this name."""

import sys

from focalcodec.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
