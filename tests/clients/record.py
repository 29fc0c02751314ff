"""Write what the sequences of this folder give with the official package.

python -m tests.clients.record official
"""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

import torch

from benchmarks.official.packages import official
from benchmarks.official.record import write
from focalcodec.packages import ensure_torchaudio
from tests.clients.sequences import FOLDER, result


def main() -> None:
    """Run all sequences and write their results."""
    ensure_torchaudio()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    package, results = official(sys.argv[1]), {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.clients.{path.stem}")
        for name, run in getattr(module, "SEQUENCES", {}).items():
            results[name] = result(run, package)
            if "error" in results[name]:
                raise SystemExit(f"{name}: {results[name]['error']}")
    write(FOLDER, results)


if __name__ == "__main__":
    main()
