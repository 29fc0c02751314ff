"""How many tokens of bfloat16 are those of float32.

    python benchmarks/precision.py results/quickstart/codec --audio corpus/LibriSpeech/test-real

Without a codec, one of the paper's size with random weights. On a CPU without bfloat16 instructions
it works too, slowly.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
from codec_speed import paper_codec
from tqdm import tqdm

from focalcodec import FocalCodec
from focalcodec.audio import read_audio
from focalcodec.files import AUDIO_SUFFIXES
from focalcodec.precision import set_precision


def main() -> None:
    """Encode every clip in both and print the shares that agree."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("codec", nargs="?", help="folder; default the paper's size, random weights")
    parser.add_argument("--audio", type=Path, required=True, help="folder of clips")
    args = parser.parse_args()

    codec = paper_codec() if args.codec is None else FocalCodec.from_pretrained(args.codec)
    lower = set_precision(copy.deepcopy(codec), "bf16")
    clips = sorted(path for path in args.audio.rglob("*") if path.suffix in AUDIO_SUFFIXES)
    toks = bits = same_toks = same_bits = 0
    for clip in tqdm(clips, unit="clip"):
        sig = read_audio(clip, codec.sample_rate_input, channels="mix")[None]
        expected, found = codec.encode(sig)[0], lower.encode(sig)[0]
        signs = codec.toks_to_codes(expected) > 0
        toks, bits = toks + expected.numel(), bits + signs.numel()
        same_toks += int((expected == found).sum())
        same_bits += int((signs == (codec.toks_to_codes(found) > 0)).sum())
    print(f"{len(clips)} clips, {toks} tokens; equal in bfloat16:")
    print(f"toks {100 * same_toks / toks:.2f} %, bits {100 * same_bits / bits:.2f} %")


if __name__ == "__main__":
    with torch.no_grad():
        main()
