"""Speed of mixing on the fly, of the embedded corpus, in this one process.

    python benchmarks/mixing.py --noise_folder /data/wham_noise

Prints, for several options, mixtures and seconds of audio a second of processor time, which is
that of one core with OMP_NUM_THREADS=1. Half a minute.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from focalcodec.audio import audio_info
from focalcodec.data.corpus import embedded_corpus
from focalcodec.data.mixtures import MixtureMaker

OPTIONS: dict[str, dict[str, Any]] = {
    "generated noise": {},
    "in rooms": {"reverb_share": 1.0, "rooms": 16},
    "two speakers": {"num_speakers": 2},
    "three speakers, mode max": {"num_speakers": 3, "mode": "max"},
}


def rows_of(split: str) -> list[dict[str, Any]]:
    """Clips of a split of the embedded corpus."""
    paths = sorted((embedded_corpus("LibriSpeech") / split).glob("*/*/*.flac"))
    return [{"ID": path.stem, "spk_id": path.parts[-3], "wav": str(path)} for path in paths]


def speed(maker: MixtureMaker, rows: list[dict[str, Any]], repeats: int) -> tuple[float, float]:
    """Mixtures and seconds of audio that are made a second."""
    for row in rows:
        maker(row, 0)  # rooms are made when they are first drawn
    start, samples = time.process_time(), 0  # of this process, whatever else runs
    for draw in range(repeats):
        samples += sum(len(maker(row, 1 + draw).noisy) for row in rows)
    took = time.process_time() - start
    return repeats * len(rows) / took, samples / maker.sample_rate / took


def main() -> None:
    """Print a line for each of the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--noise_folder", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    rows, options = rows_of("train-mini"), dict(OPTIONS)
    if args.noise_folder:
        options["noise of a folder"] = {"noise_folder": args.noise_folder}
    mean = sum(audio_info(row["wav"]).seconds for row in rows) / len(rows)
    print(f"{len(rows)} clips of {mean:.1f} s")
    for name, some in options.items():
        count, seconds = speed(MixtureMaker(rows, 16000, seed=0, **some), rows, args.repeats)
        print(f"{name}: {count:.0f} mixtures/s, {seconds:.0f} times real time")


if __name__ == "__main__":
    main()
