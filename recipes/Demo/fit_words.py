"""Train the reader of the loss on words (words.py): feats of the demo's teacher to its last layer.

    python fit_words.py CORPUS/train-libri CORPUS/train-real CORPUS/train-synthetic --to FILE

The same number of clips is drawn from each folder. About ten minutes of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from fit_mix import draw, save
from torch import Tensor, nn
from torch.nn import functional as F
from words import WordReader

from focalcodec.data.clips import read_clip
from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.encoders.whisper_packages import whisper_base_mix
from focalcodec.errors import UserError
from focalcodec.progress import ProgressBar
from focalcodec.training.run import script
from focalcodec.training.schedules import warmup_linear

BATCH, FRAMES = 8, 200  # crops of 4 s


def main(argv: Sequence[str]) -> None:
    """Train the reader and write it to a file.

    Parameters
    ----------
    argv : sequence of str
        Command line.

    Raises
    ------
    UserError
        A folder has no audio, or Whisper base is not installed.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of audio")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="safetensors")
    parser.add_argument("--clips", type=int, default=300, help="largest number for each folder")
    parser.add_argument("--steps", type=int, default=900, help="of training")
    parser.add_argument("--seed", type=int, default=1986)
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    paths = [path for folder in args.folders for path in draw(folder, args.clips, args.seed)]
    encoder = whisper_base_mix()
    clips = [encode(encoder, path) for path in ProgressBar(paths, "feats", unit="clips")]
    reader, error = fit([clip for clip in clips if len(clip[0]) >= FRAMES], args.steps)
    save(reader.state_dict(), args.to)
    print(f"{args.to}: squared error {error:.3f} on clips that were left out; 1 is no prediction")


@torch.inference_mode()
def encode(encoder: SpeechEncoder, path: Path) -> tuple[Tensor, Tensor]:
    """Feats (N, 256) and last layer (N, 512) of a clip; the norm undoes the scale of a frame."""
    limit = int(encoder.sample_rate * (encoder.max_seconds or 0))
    layers = encoder.hidden_states(read_clip(str(path), encoder.sample_rate)[None, :limit])
    assert encoder.mix is not None, "numbers of the layers"
    return encoder.mix(layers)[0], F.layer_norm(layers[-1][0], layers[-1].shape[-1:])


def fit(clips: Sequence[tuple[Tensor, Tensor]], steps: int) -> tuple[WordReader, float]:
    """Reader trained on random crops, and its error on every twentieth clip, left out of them."""
    if len(clips) < 2:
        raise UserError(f"{len(clips)} clips of {FRAMES} frames or more: give more audio")
    reader = WordReader(*(values.shape[1] for values in clips[0]))
    optimizer = torch.optim.AdamW(
        reader.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    schedule = warmup_linear(optimizer, warmup_steps=100, total_steps=steps)
    held_out, trained = clips[::20], [clip for i, clip in enumerate(clips) if i % 20]
    for _ in ProgressBar(range(steps), "reader", unit="steps"):
        feats, layer = crops(trained)
        # the reader also gets feats that tokens changed
        feats = feats + 0.1 * torch.rand(len(feats), 1, 1) * torch.randn_like(feats)
        loss = error_of(reader, feats, layer)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        errors = [error_of(reader, *crops(held_out)) for _ in range(8)]
    return reader, float(torch.stack(errors).mean())


def crops(clips: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Feats (BATCH, FRAMES, 256) and last layers (BATCH, FRAMES, 512) of random crops."""
    pairs = []
    for i in torch.randint(len(clips), (BATCH,)).tolist():
        start = int(torch.randint(len(clips[i][0]) - FRAMES + 1, ()))
        pairs.append([values[start : start + FRAMES] for values in clips[i]])
    feats, layer = (torch.stack(list(values)) for values in zip(*pairs, strict=True))
    return feats, layer


def error_of(reader: WordReader, feats: Tensor, layer: Tensor) -> Tensor:
    """Mean squared error of a batch."""
    mask = torch.ones(feats.shape[:2], dtype=torch.bool)
    return F.mse_loss(reader(feats, mask), layer)


if __name__ == "__main__":
    script(main)
