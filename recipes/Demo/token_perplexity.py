"""How well a small language model predicts the tokens of codecs: bits a token and bits a second.

    python token_perplexity.py /data/demo/train-real /data/demo/dev-demo results/codec results/other

trains one model for each codec on the tokens of the first folder, with one seed and as many steps,
and measures it on the second. 95 % intervals are over clips; differences from the first codec are
paired, and in bits a second, because codecs may have other rates. With merged tokens (--merge)
equal neighbours are predicted like other tokens.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.evaluation.intervals import Figure, figure, paired_difference

LENGTH = 128  # tokens that the model sees at once


class TokenLM(nn.Module):
    """Causal Transformer; the vectors of tokens are linear maps of their codes.

    Example
    -------
    >>> TokenLM(torch.eye(16))(torch.zeros(2, 5, dtype=torch.int64)).shape
    torch.Size([2, 5, 16])
    """

    codes: Tensor

    def __init__(self, codes: Tensor, dim: int = 128, num_layers: int = 2) -> None:
        super().__init__()
        self.register_buffer("codes", F.normalize(codes, dim=1) * codes.shape[1] ** 0.5)  # (K, L)
        self.embed = nn.Linear(codes.shape[1], dim, bias=False)
        self.place = nn.Parameter(0.02 * torch.randn(LENGTH, dim))
        layer = nn.TransformerEncoderLayer(dim, 4, 4 * dim, 0.1, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(
            layer, num_layers, nn.LayerNorm(dim), enable_nested_tensor=False
        )

    def forward(self, toks: Tensor) -> Tensor:
        """Logits (B, N, K) of the next tokens of toks (B, N)."""
        vectors = self.embed(self.codes)  # (K, dim)
        x = vectors[toks] + self.place[: toks.shape[1]]  # (B, N, dim)
        mask = nn.Transformer.generate_square_subsequent_mask(toks.shape[1])
        return self.blocks(x, mask, is_causal=True) @ vectors.T / vectors.shape[1] ** 0.5


def clips_of(folder: Path) -> list[Path]:
    """Audio files of a folder, sorted; a `UserError` if there are none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in (".flac", ".wav", ".ogg"))
    if not found:
        raise UserError(f"{folder}: no .flac, .wav or .ogg files; name a folder of clips")
    return found


def train(codec: FocalCodec, clips: Sequence[Tensor], steps: int, seed: int) -> TokenLM:
    """Train on random pieces of all clips, one behind the other."""
    torch.manual_seed(seed)
    stream, model = torch.cat([*clips]), TokenLM(codec.quantizer.codebook.float())
    if len(stream) <= LENGTH:
        raise UserError(f"{len(stream)} tokens to train on; give more than {LENGTH}")
    optimizer = torch.optim.AdamW(model.parameters(), 0.002, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.002, steps)
    for _ in range(steps):
        starts = torch.randint(len(stream) - LENGTH, (8, 1))
        pieces = stream[starts + torch.arange(LENGTH + 1)]  # (8, LENGTH + 1)
        loss = F.cross_entropy(model(pieces[:, :-1]).flatten(0, 1), pieces[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def bits(model: TokenLM, toks: Tensor) -> tuple[float, int]:
    """Bits of the tokens (N,) of a clip but the first, and how many these are."""
    total = 0.0
    for start in range(0, len(toks) - 1, LENGTH):
        piece = toks[start : start + LENGTH + 1]
        logits = model(piece[None, :-1])[0]
        total += float(F.cross_entropy(logits, piece[1:], reduction="sum")) / math.log(2)
    return total, max(len(toks) - 1, 1)


def row(name: str, rate: float, scores: list[tuple[float, int]], first: Sequence[float]) -> str:
    """A line of the table: perplexity, bits a token, bits a second, difference from the first.

    Example
    -------
    >>> row("a", 50.0, [(20.0, 10), (40.0, 20)], [])
    '| a | 4 [4, 4] | 2.00 [2.00, 2.00] | 100.00 [100.00, 100.00] |  |'
    """
    counts = [float(count) for _, count in scores]
    each = figure([total / count for total, count in scores], counts)
    seconds, ones = [count / rate for count in counts], [1.0] * len(scores)
    per_second = bits_a_second(scores, rate)
    cells = [name, f"{2**each.value:.0f} [{2**each.low:.0f}, {2**each.high:.0f}]", _text(each)]
    cells.append(_text(figure(per_second, seconds)))
    if first:
        cells.append(_text(paired_difference((per_second, ones), (first, ones))))
    return f"| {' | '.join([*cells, *[''] * (5 - len(cells))])} |"


def bits_a_second(scores: list[tuple[float, int]], rate: float) -> list[float]:
    """Of each clip, from its bits and its number of tokens."""
    return [total / count * rate for total, count in scores]


def _text(found: Figure) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; the result is an exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path, help="folder of clips to train on")
    parser.add_argument("valid", type=Path, help="folder of clips to measure on")
    parser.add_argument("codecs", nargs="+", help="folders of codecs, or demo")
    parser.add_argument("--steps", type=int, default=1000, help="of training (default: 1000)")
    parser.add_argument("--seed", type=int, default=1986)
    parser.add_argument("--merge", type=float, help="cosine above which neighbours are merged")
    args = parser.parse_args(argv)
    try:
        show(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def show(args: argparse.Namespace) -> None:
    """Train and measure for each codec, and print its line."""
    clips = [clips_of(folder) for folder in (args.train, args.valid)]
    print("| codec | perplexity | bits a token | bits a second | difference, bits a second |")
    print("|---|---|---|---|---|")
    first: list[float] = []
    for name in args.codecs:
        codec = FocalCodec.from_pretrained(name)
        toks = [
            [codec.encode_file(path, merge=args.merge).toks for path in files] for files in clips
        ]
        model = train(codec, toks[0], args.steps, args.seed)
        scores = [bits(model, clip) for clip in toks[1] if len(clip) > 1]
        print(row(name, codec.token_rate, scores, first), flush=True)
        first = first or bits_a_second(scores, codec.token_rate)


if __name__ == "__main__":
    sys.exit(main())
