"""Which layers of Whisper base a codec's encoder should learn: what a few components keep.

    python benchmarks/teacher_layers.py FOLDER [FOLDER ...]

Hidden states of the clips in the folders are standardised channel by channel, averaged over the
layers of a mix, and reduced to their leading principal components. From these, ridge regression
foretells log-mel bands (sound and voice) and the last layer (words) of clips that it has not seen.
Prints a Markdown table of R2, the share of the variance that is foretold; and, for each layer, the
share that its positions explain: where in a clip a frame stands is no feature of speech.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from focalcodec.data.clips import read_clip
from focalcodec.data.corpus import walk_files
from focalcodec.encoders.logmel import LogMel
from focalcodec.encoders.whisper_packages import whisper_base

COMPONENTS = (16, 32, 64)
MIXES = ([0, 6], [1, 6], [1, 4], [2, 6], [0, 3, 6], [0, 1, 2, 3, 4, 5, 6])
LONGEST = 20  # seconds of a clip


def draw(folders: list[Path], clips: int, seed: int) -> list[Path]:
    """Clips of all folders, the same for the same seed."""
    paths = [folder / file.path for folder in folders for file in walk_files(folder, ".")]
    audio = sorted(path for path in paths if path.suffix in (".flac", ".ogg", ".wav"))
    chosen = np.random.default_rng(seed).permutation(len(audio))[:clips]
    return [audio[i] for i in chosen]


def standardised(x: Tensor, fitted: Tensor) -> Tensor:
    """Each channel with mean 0 and variance 1 where `fitted`."""
    return (x - x[fitted].mean(dim=0)) / x[fitted].std(dim=0)


def foretold(x: Tensor, y: Tensor, fitted: Tensor, penalty: float = 10.0) -> float:
    """R2 of y (N, E) by ridge regression from x (N, D), over frames that are not `fitted`."""
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
    y = y.double()
    square = x[fitted].T @ x[fitted] + penalty * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(square, x[fitted].T @ y[fitted])
    errors = (y[~fitted] - x[~fitted] @ weight).square().sum(dim=0)
    spread = (y[~fitted] - y[~fitted].mean(dim=0)).square().sum(dim=0)
    return float((1 - errors / spread).mean())


def components(x: Tensor, fitted: Tensor) -> Tensor:
    """All principal components of x (N, D), the largest first."""
    _, vectors = torch.linalg.eigh(torch.cov(x[fitted].double().T))
    return ((x - x[fitted].mean(dim=0)).double() @ vectors.flip(1)).float()


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of audio")
    parser.add_argument("--clips", type=int, default=150, help="of which a quarter is held out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    encoder, mel = whisper_base(list(range(7))), LogMel()
    layers: list[list[Tensor]] = [[] for _ in range(7)]
    bands, positions, clip = [], [], []
    paths = draw(args.folders, args.clips, args.seed)
    for index, path in enumerate(tqdm(paths, unit="clip")):
        sig = read_clip(str(path), encoder.sample_rate)[None, : LONGEST * encoder.sample_rate]
        states, spectra = encoder.hidden_states(sig), mel(sig)[0][0]
        frames = min(len(spectra), states[0].shape[1])
        for layer, state in zip(layers, states, strict=True):
            layer.append(state[0, :frames])
        bands.append(spectra[:frames])
        positions.append(encoder.model.embed_positions.weight[:frames])
        clip.append(torch.full((frames,), index))
    fitted = torch.cat(clip) < round(0.75 * len(paths))
    known = [standardised(torch.cat(layer), fitted) for layer in layers]
    target = standardised(torch.cat(bands), fitted)
    where = torch.cat(positions)
    print(
        f"{len(paths)} clips, {len(fitted)} frames, R2 over the {int((~fitted).sum())} held out\n"
    )
    columns = [f"{what}, {n}" for what in ("log-mel", "layer 6") for n in COMPONENTS]
    print(f"| layers | {' | '.join(columns)} | by position |")
    print(f"|{'---|' * (len(columns) + 2)}")
    for mix in [*([number] for number in range(7)), *MIXES]:
        x = torch.stack([known[number] for number in mix]).mean(dim=0)
        parts = components(x, fitted)
        figures = [
            foretold(parts[:, :n], y, fitted) for y in (target, known[6]) for n in COMPONENTS
        ]
        figures.append(max(0.0, foretold(where, x, fitted, penalty=30.0)))
        cells = " | ".join(f"{figure:.2f}" for figure in figures)
        print(f"| {' + '.join(map(str, mix))} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
