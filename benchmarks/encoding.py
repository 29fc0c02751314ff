"""Time to encode at the paper's size on one thread: the official package, ours, ours packed.

    git clone https://github.com/lucadellalib/focalcodec official
    git -C official checkout 912b7f2
    python benchmarks/encoding.py official --seconds 10 30

The 50 Hz codec with random weights, and noise. The programs take turns; the best processor time of
`--repeats` rounds counts. A ratio above 1 is faster than the official package, or than ours in
float32. The last columns are tokens and bits that are those of ours in float32. An AVX-512 machine
is restricted to AVX2 by the variables that benchmarks/streaming.py names.
"""

from __future__ import annotations

import argparse

import torch
from codec_speed import best_times, noise, paper_codec
from official import packages
from torch import Tensor

from focalcodec.precision import pack_weights


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", help="folder of the official repository, with focalcodec/ in it")
    parser.add_argument("--seconds", nargs="+", type=float, default=[10.0, 30.0])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    ours = paper_codec()
    official = packages.official(args.path).codec.FocalCodec(**ours.config).eval()
    official.load_state_dict(ours.state_dict())
    codecs = {
        "official, float32": official,
        "float32": ours,
        "float32, packed": pack_weights(paper_codec(), "float32"),
        "int8": pack_weights(paper_codec(), "int8"),
    }
    print("| seconds | | official = 1 | float32 = 1 | toks equal, % | bits equal, % |")
    print("|---|---|---|---|---|---|")
    for seconds in args.seconds:
        sig = noise(seconds)
        toks: dict[str, Tensor] = {name: codec.sig_to_toks(sig) for name, codec in codecs.items()}
        runs = {
            name: lambda codec=codec, sig=sig: codec.sig_to_toks(sig)
            for name, codec in codecs.items()
        }
        best = best_times(runs, args.repeats)
        codes = ours.toks_to_codes(toks["float32"])
        for name, time in best.items():
            same = 100 * float((toks[name] == toks["float32"]).double().mean())
            bits = 100 * float((ours.toks_to_codes(toks[name]) == codes).double().mean())
            ratios = f"{best['official, float32'] / time:.2f} | {best['float32'] / time:.2f}"
            print(f"| {seconds:g} | {name} | {ratios} | {same:.2f} | {bits:.2f} |", flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()
