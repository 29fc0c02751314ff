"""Compare this package with the official one, everything that its clients call, on small models.

    git clone https://github.com/lucadellalib/focalcodec official
    python benchmarks/against_official.py official

    git -C official checkout 912b7f2
    python benchmarks/against_official.py official --record tests/data/official

Prints one line a case: the item, and "equal", the largest difference, or the first line of the
error. Exits with 1 if a case differs that is not in DIFFERENCES, with its reason. `--only TEXT`
runs the cases whose names contain it, `--failing` prints those that differ. About a minute.
`--record` writes what the official package gives, for tests/unit/test_official_results.py.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
from pathlib import Path

import torch
from official import packages
from official.cases import cases, recorded_cases
from official.compare import Outcome, compare
from official.pairs import pairs
from official.record import write

# What differs on purpose: pattern of names, and the reason
DIFFERENCES: dict[str, str] = {
    "*/toks out of range": "refused here; the official code takes them modulo the codebook",
    "*/short end": "the official code differs from its own stream; ours follows the stream",
    "*causal/encoder of window_size=6": "officially a call of several chunks shifts them if the"
    " window is not a whole number of chunks",
    "*hz/decoder trace": "a traced official Vocos works at the traced length only",
    "50hz/decoder_config without hop_length": "a hop above the window: no samples in the official"
    " code, refused here",
    "50hz_2k_causal/toks_to_sig stream, voice": "two frames of the set are equally near, to 4e-7",
    "*/from_pretrained mode": "eval mode here, training mode in the official code",
}


def reason(name: str) -> str | None:
    """Why a case may differ; None if it may not."""
    found = (why for pattern, why in DIFFERENCES.items() if fnmatch.fnmatch(name, pattern))
    return next(found, None)


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", help="folder of the official repository, with focalcodec/ in it")
    parser.add_argument("--only", default="", help="run the cases whose names contain this")
    parser.add_argument("--failing", action="store_true", help="print the cases that differ")
    parser.add_argument("--record", type=Path, help="folder where the official results go")
    args = parser.parse_args()
    torch.set_num_threads(1)
    official, ours = packages.official(args.path), packages.ours()
    if args.record:
        write(args.record, {case.name: case.result(official) for case in recorded_cases()})
        return
    counts = {"equal": 0, "differs on purpose": 0, "differs": 0}

    def show(name: str, outcome: Outcome) -> None:
        why = None if outcome.ok else reason(name)
        kind = "equal" if outcome.ok else "differs on purpose" if why else "differs"
        counts[kind] += 1
        if kind == "differs" or not args.failing:
            mark = {"equal": " ", "differs on purpose": "~", "differs": "X"}[kind]
            print(f"{mark} {name:58} {outcome.text}{f' ({why})' if why else ''}", flush=True)

    for case in cases():
        if args.only in case.name:
            show(case.name, compare(case.result(official), case.result(ours)))
    with tempfile.TemporaryDirectory() as folder:
        for pair in pairs(Path(folder)):
            if args.only in pair.name:
                show(pair.name, pair.outcome(official, ours))
    print(", ".join(f"{number} {kind}" for kind, number in counts.items()))
    sys.exit(counts["differs"] > 0)


if __name__ == "__main__":
    main()
