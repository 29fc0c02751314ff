"""How well a small language model predicts the tokens of codecs: bits a token and bits a second.

    python token_perplexity.py /data/demo/train-real /data/demo/dev-demo demo results/codec

trains one model for each codec on the tokens of the first folder, with one seed and as many steps,
and measures it on the second. 95 % intervals are over speakers where eight or more are known (the
first folder below is the speaker), else over clips. Differences from the first codec are paired,
and in bits a second, because codecs may have other rates. A name may be
LABEL=CODEC, or merge:0.7@CODEC: then equal neighbours are predicted like other tokens.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.coders import load_coder, parse_spec
from focalcodec.coders.focal import FocalCoder
from focalcodec.errors import UserError
from focalcodec.evaluation.intervals import Figure, figure, paired_difference
from focalcodec.evaluation.sets import read_sets
from focalcodec.lm import SpeechLM, target_nats

LENGTH = 128  # tokens that the model sees at once


class Clip(NamedTuple):
    """Tokens of a clip."""

    toks: Tensor  # (N,) int64
    speaker: str


class Score(NamedTuple):
    """Bits of all tokens of a clip but the first, and how many these are."""

    bits: float
    count: int
    speaker: str = ""


def make_model(codes: Tensor) -> SpeechLM:
    """A model of tokens with codes (K, L); their vectors are linear maps of the codes alone.

    Example
    -------
    >>> make_model(torch.eye(16))(torch.zeros(2, 5, dtype=torch.int64)).shape
    torch.Size([2, 5, 16])
    """
    size, code_dim = codes.shape
    model = SpeechLM(size, 128, 2, 4, 4, code_dim=code_dim, dropout=0.1)
    model.codes.copy_(F.normalize(codes, dim=1) * code_dim**0.5)
    for own in (model.table, model.head):  # most tokens are too rare for a vector of their own
        nn.init.zeros_(own.requires_grad_(False))
    return model


def tokens_of(folder: Path, coder: FocalCoder) -> list[Clip]:
    """Tokens of all clips of a folder or a manifest."""
    return [
        Clip(coder.codec.encode_file(clip.input, merge=coder.merge).toks, clip.speaker)
        for clip_set in read_sets(folder)
        for clip in clip_set.clips
    ]


def train(codes: Tensor, clips: Sequence[Clip], steps: int, seed: int) -> SpeechLM:
    """Train on random pieces of all clips, one behind the other."""
    torch.manual_seed(seed)
    stream, model = torch.cat([clip.toks for clip in clips]), make_model(codes)
    if len(stream) <= LENGTH:
        raise UserError(f"{len(stream)} tokens to train on; give more than {LENGTH}")
    optimizer = torch.optim.AdamW(model.parameters(), 0.002, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.002, steps)
    for _ in range(steps):
        starts = torch.randint(len(stream) - LENGTH, (8, 1))
        pieces = stream[starts + torch.arange(LENGTH + 1)]  # (8, LENGTH + 1)
        nats, counts = target_nats(model, pieces, torch.ones_like(pieces, dtype=torch.bool))
        optimizer.zero_grad()
        (nats.sum() / counts.sum()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def score(model: SpeechLM, clip: Clip) -> Score:
    """Bits of a clip, in pieces as in training."""
    total = 0.0
    for start in range(0, len(clip.toks) - 1, LENGTH):
        piece = clip.toks[None, start : start + LENGTH + 1]
        nats, _ = target_nats(model, piece, torch.ones_like(piece, dtype=torch.bool))
        total += nats.item() / math.log(2)
    return Score(total, len(clip.toks) - 1, clip.speaker)


class Measured(NamedTuple):
    """A codec with `rate` tokens a second out of `size`, and the scores of its clips."""

    name: str
    rate: float
    size: int
    scores: Sequence[Score]

    @property
    def bits_a_second(self) -> tuple[list[float], list[float]]:
        """Values and weights, the seconds, of the clips."""
        values = [each.bits / each.count * self.rate for each in self.scores]
        return values, [each.count / self.rate for each in self.scores]


def row(found: Measured, first: Measured | None = None) -> str:
    """A line of the table, with the difference from the first codec.

    Example
    -------
    >>> row(Measured("a", 50.0, 16, [Score(20.0, 10), Score(40.0, 20)]))
    '| a | 200 | 4 [4, 4] | 2.00 [2.00, 2.00] | 100.0 [100.0, 100.0] |  |'
    """
    speakers = [each.speaker for each in found.scores]
    each_token = [each.bits / each.count for each in found.scores]
    bits = figure(each_token, [float(each.count) for each in found.scores], speakers=speakers)
    per_second = found.bits_a_second
    cells = [
        found.name,
        f"{found.rate * math.log2(found.size):.0f}",
        f"{2**bits.value:.0f} [{2**bits.low:.0f}, {2**bits.high:.0f}]",
        _text(bits, 2),
        _text(figure(*per_second, speakers=speakers), 1),
        "",
    ]
    if first is not None:
        paired = paired_difference(per_second, first.bits_a_second, speakers=speakers)
        cells[-1] = _text(paired, 1)
    return f"| {' | '.join(cells)} |"


def _text(found: Figure, digits: int) -> str:
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; the result is an exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path, help="folder of clips to train on")
    parser.add_argument("valid", type=Path, help="folder of clips to measure on")
    parser.add_argument("codecs", nargs="+", help="folders of codecs, demo, merge:0.7@CODEC")
    parser.add_argument("--steps", type=int, default=1000, help="of training (default: 1000)")
    parser.add_argument("--seed", type=int, default=1986)
    args = parser.parse_args(argv)
    try:
        show(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def show(args: argparse.Namespace) -> None:
    """Train and measure for each codec, and print its line."""
    for folder in (args.train, args.valid):  # before hours of work
        read_sets(folder)
    coders = [load_ours(name) for name in args.codecs]
    print("| codec | bit/s | perplexity ↓ | bits a token ↓ | bits a second ↓ | difference |")
    print("|---|---|---|---|---|---|")
    first: Measured | None = None
    for name, coder in zip(args.codecs, coders, strict=True):
        codec = coder.codec
        model = train(codec.codebook.float(), tokens_of(args.train, coder), args.steps, args.seed)
        clips = tokens_of(args.valid, coder)
        scores = [score(model, clip) for clip in clips if len(clip.toks) > 1]
        label = parse_spec(name).label
        found = Measured(label, codec.token_rate, codec.codebook_size, scores)
        print(row(found, first), flush=True)
        first = first or found


def load_ours(name: str) -> FocalCoder:
    """A codec of ours; `UserError` for another one."""
    coder = load_coder(parse_spec(name), torch.device("cpu"))
    if not isinstance(coder, FocalCoder):
        raise UserError(f"{name}: not a FocalCodec; give folders of codecs, or demo")
    return coder


if __name__ == "__main__":
    sys.exit(main())
