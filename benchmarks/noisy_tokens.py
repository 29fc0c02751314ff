"""How much of a codec's tokens noise changes: those of noisy clips against those of clean ones.

    python benchmarks/noisy_tokens.py MANIFESTS CODEC [CODEC ...]

MANIFESTS is a folder of recipes/LibriMix's preparation with mixtures on disk, e.g. the folder
`manifests` of a denoising run. Prints, for each codec and each of its sets, the share of tokens
that are the same, and the share of their bits, which is 50 % by chance.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch

from focalcodec import FocalCodec
from focalcodec.audio import read_audio
from focalcodec.data.manifest import read_prepared


def agreement(codec: FocalCodec, rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Shares of tokens and of bits that are the same, in %."""
    same_toks = same_bits = toks_seen = bits_seen = 0
    for row in rows:
        sigs = [read_audio(row[name], codec.sample_rate_input)[None] for name in ("wav", "noisy")]
        clean, noisy = (codec.sig_to_toks(sig)[0] for sig in sigs)
        bits = codec.toks_to_codes(clean[None]).sign() == codec.toks_to_codes(noisy[None]).sign()
        same_toks, toks_seen = same_toks + int((clean == noisy).sum()), toks_seen + len(clean)
        same_bits, bits_seen = same_bits + int(bits.sum()), bits_seen + bits.numel()
    return 100 * same_toks / toks_seen, 100 * same_bits / bits_seen


@torch.inference_mode()
def main() -> None:
    """Print a line for each set and codec."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifests")
    parser.add_argument("codec", nargs="+")
    args = parser.parse_args()
    sets = read_prepared(args.manifests)
    for folder in args.codec:
        codec = FocalCodec.from_pretrained(folder).eval()
        for name, rows in sets.items():
            toks, bits = agreement(codec, rows)
            print(f"{folder} {name}: {toks:.1f} % of tokens, {bits:.1f} % of bits")


if __name__ == "__main__":
    main()
