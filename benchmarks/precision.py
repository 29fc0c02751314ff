"""How many tokens of each number format are those of float32.

    python benchmarks/precision.py demo --audio corpus/LibriSpeech/test-real

Without a codec, one of the paper's size with random weights. On a CPU without bfloat16 instructions
it works too, slowly.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import torch
from codec_speed import paper_codec
from torch import Tensor
from tqdm import tqdm

from focalcodec import FocalCodec
from focalcodec.audio import read_audio
from focalcodec.files import AUDIO_SUFFIXES
from focalcodec.precision import set_precision


def formats(codec: FocalCodec) -> dict[str, Callable[[Tensor], Tensor]]:
    """Tokens of a signal in each format, by what a user writes."""

    def cast(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        other = copy.deepcopy(codec).to(dtype)
        return lambda sig: other.encode(sig, 16000)[0]

    def packed(precision: str) -> Callable[[Tensor], Tensor]:
        other = set_precision(copy.deepcopy(codec), precision)
        return lambda sig: other.encode(sig, 16000)[0]

    def autocast(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        def toks(sig: Tensor) -> Tensor:
            with torch.autocast(sig.device.type, dtype):
                return codec.encode(sig, 16000)[0]

        return toks

    return {
        ".to(torch.bfloat16)": cast(torch.bfloat16),
        ".half()": cast(torch.float16),
        ".double()": cast(torch.float64),
        "autocast, bfloat16": autocast(torch.bfloat16),
        "autocast, float16": autocast(torch.float16),
        'set_precision(codec, "int8")': packed("int8"),
        "float32, audio in bfloat16": lambda sig: codec.encode(sig.bfloat16(), 16000)[0],
        "float32, audio in float16": lambda sig: codec.encode(sig.half(), 16000)[0],
    }


def main() -> None:
    """Encode every clip in all formats and print the shares that agree."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("codec", nargs="?", help="name or folder; default: the paper's size")
    parser.add_argument("--audio", type=Path, required=True, help="folder of clips")
    args = parser.parse_args()

    codec = paper_codec() if args.codec is None else FocalCodec.from_pretrained(args.codec)
    runs = formats(codec)
    clips = sorted(path for path in args.audio.rglob("*") if path.suffix in AUDIO_SUFFIXES)
    toks = bits = 0
    same_toks, same_bits = dict.fromkeys(runs, 0), dict.fromkeys(runs, 0)
    for clip in tqdm(clips, unit="clip"):
        sig = read_audio(clip, codec.sample_rate_input, channels="mix")[None]
        expected = codec.encode(sig, codec.sample_rate_input)[0]
        signs = codec.toks_to_codes(expected) > 0
        toks, bits = toks + expected.numel(), bits + signs.numel()
        for name, run in runs.items():
            found = run(sig)
            same_toks[name] += int((expected == found).sum())
            same_bits[name] += int((signs == (codec.toks_to_codes(found) > 0)).sum())
    print(f"{len(clips)} clips, {toks} tokens; equal to those of float32:")
    for name in runs:
        shares = 100 * same_toks[name] / toks, 100 * same_bits[name] / bits
        print(f"{name:28} toks {shares[0]:.2f} %, bits {shares[1]:.2f} %")


if __name__ == "__main__":
    with torch.no_grad():
        main()
