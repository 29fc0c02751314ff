"""Fit the mix of several layers of Whisper base to speech, for `distill_encoder.yaml`.

    python fit_mix.py CORPUS/train-synthetic CORPUS/train-real --to whisper_base_mix.safetensors

The same number of clips is drawn from each folder. The package has the mix that the demo codec was
distilled from: focalcodec/models/whisper_base_mix.safetensors.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from torch import Tensor

from focalcodec.data.clips import read_clip
from focalcodec.data.corpus import walk_files
from focalcodec.encoders.whisper_packages import whisper_base
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.progress import ProgressBar
from focalcodec.training.run import script

AUDIO = (".flac", ".ogg", ".wav")


def main(argv: Sequence[str]) -> None:
    """Fit the mix and write it to a file.

    Parameters
    ----------
    argv : sequence of str
        Command line.

    Raises
    ------
    UserError
        A folder has no audio, or Whisper base does not have such layers.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of audio")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="safetensors")
    parser.add_argument("--layers", nargs="+", type=int, default=[0, 6])
    parser.add_argument("--components", type=int, default=256)
    parser.add_argument("--clips", type=int, default=300, help="largest number for each folder")
    parser.add_argument("--seed", type=int, default=1986)
    args = parser.parse_args(argv)
    encoder = whisper_base(args.layers, args.components)
    assert encoder.mix is not None, "numbers of the layers"
    paths = [path for folder in args.folders for path in draw(folder, args.clips, args.seed)]
    limit = int(encoder.sample_rate * (encoder.max_seconds or 0))
    encoder.fit_mix(
        read_clip(str(path), encoder.sample_rate)[:limit]
        for path in ProgressBar(paths, "feats", unit="clips")
    )
    layers = " ".join(str(layer) for layer in args.layers)
    save(encoder.mix.state_dict(), args.to, {"layers": layers})
    print(f"{args.to}: layers {args.layers} of Whisper base in {args.components} components")


def draw(folder: Path, clips: int, seed: int) -> list[Path]:
    """Random clips of a folder; the same seed gives the same clips."""
    found = [file.path for file in walk_files(folder, ".") if file.path.endswith(AUDIO)]
    if not found:
        raise UserError(f"{folder}: no audio ({', '.join(AUDIO)}) there; check the path")
    chosen = np.random.default_rng(seed).permutation(len(found))[:clips]
    return [folder / found[i] for i in sorted(chosen)]


def save(weights: dict[str, Tensor], path: Path, about: dict[str, str] | None = None) -> None:
    """Write a file of safetensors, whole or not at all."""
    with atomic_path(path) as temporary:
        save_file(weights, temporary, about)
        # safetensors writes files that only their owner can read
        temporary.chmod(0o644)


if __name__ == "__main__":
    script(main)
