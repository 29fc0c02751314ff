"""Time until the package and its commands answer.

    python benchmarks/startup.py

Each line is a Python process of its own; the shortest of `--repeats` counts. Times are printed in
seconds, and as ratios to `import torch`, which differ less between machines.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = {
    "python": ["-c", ""],
    "import torch": ["-c", "import torch"],
    "import focalcodec": ["-c", "import focalcodec"],
    "import focalcodec.codec": ["-c", "import focalcodec.codec"],
    "focalcodec --help": ["-m", "focalcodec", "--help"],
    "focalcodec info x.fct": ["-m", "focalcodec", "info", "x.fct"],
}
TOKEN_FILE = """
import torch
from focalcodec.fct import TokenHeader, write_toks
header = TokenHeader("me/codec", "0123456789abcdef", 13, 320, 16000, 16000, 16000, 160000)
write_toks("x.fct", torch.zeros(500, dtype=torch.int64), header)
"""


def seconds(words: list[str], folder: Path) -> float:
    """Time of one process, start to end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="processes per line")
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds(["-c", TOKEN_FILE], folder)
        # in turns, so that a busy minute of the machine does not meet one case only
        turns = [
            {case: seconds(words, folder) for case, words in CASES.items()} for _ in range(repeats)
        ]
    best = {case: min(turn[case] for turn in turns) for case in CASES}
    print(f"{'':<25}{'seconds':>9}{'of import torch':>18}")
    for case, value in best.items():
        print(f"{case:<25}{value:>9.2f}{value / best['import torch']:>18.2f}")


if __name__ == "__main__":
    main()
