"""The official package and this one on a GPU, in one run: time, memory and results.

    git clone https://github.com/lucadellalib/focalcodec official
    git -C official checkout 912b7f2
    python benchmarks/gpu.py official

Codecs of the published sizes, with the same random weights, in float32. The packages work in turn;
the median of `--repeats` rounds counts. A ratio above 1 means that ours is faster, or takes less
memory. The last column is the share of tokens, or of other values to 1e-3, that are equal. Less
than five minutes. Without a GPU it prints one line. `--device cpu --size small` tries it there.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from official import packages
from official.models import CONFIGS
from torch import Tensor

Run = Callable[[], Tensor]
_FOCAL = {"focal_window": 7, "focal_level": 2, "focal_factor": 2}
_CAUSAL_FOCAL = {"focal_window": 14, "focal_level": 2, "focal_factor": 4, "causal": True}


def _published(causal: bool) -> dict[str, Any]:
    """Configuration of a published 50 Hz codec; what it leaves out is the default."""
    dims = [1024, 1024, 1024] if causal else [1024, 512, 256]
    bits, focal = (12, _CAUSAL_FOCAL) if causal else (13, _FOCAL)
    return {
        "encoder_name": "WavLM",
        "encoder_config": {"causal": causal},
        "compressor_name": "FocalEncoder",
        "compressor_config": {"output_dim": bits, "hidden_dims": dims, **focal},
        "quantizer_name": "BinarySphericalQuantizer",
        "quantizer_config": {"codebook_size": 2**bits},
        "decompressor_name": "FocalDecoder",
        "decompressor_config": {"input_dim": bits, "hidden_dims": dims[::-1], **focal},
        "decoder_name": "WaveNeXt" if causal else "Vocos",
        "decoder_config": {"causal": True, "hop_length": 480} if causal else {},
    }


# size: configurations offline and causal, seconds of audio, and of the long clip
SIZES = {
    "published": (_published(False), _published(True), 10.0, 60.0),
    "small": (CONFIGS["50hz"], CONFIGS["50hz_4k_causal"], 0.05, 0.2),
}


def cases(offline: Any, causal: Any, seconds: float, long: float) -> dict[str, Run]:
    """What is measured of the two codecs of a package, by name."""
    encoder, device = offline.encoder, next(offline.parameters()).device

    def noise(rows: int, size: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return (0.1 * torch.randn(rows, size, generator=generator)).to(device)

    def clips(rows: int, length: float) -> Tensor:
        return noise(rows, int(length * encoder.sample_rate))

    def encode(sig: Tensor) -> Run:
        return lambda: offline.sig_to_toks(sig)

    def decode(sig: Tensor) -> Run:
        toks = offline.sig_to_toks(sig)
        return lambda: offline.toks_to_sig(toks)

    def stream() -> Tensor:
        states: list[Any] = [(), ()]
        for _ in range(10):
            toks, *states = causal.sig_to_toks(chunk, *states, return_state=True)
        return toks

    def train(*parts: str) -> Run:
        feats = offline.sig_to_feats(clips(4, seconds))

        def step() -> Tensor:
            with torch.enable_grad():
                x = feats
                for part in parts:
                    x = getattr(offline, part)(x)[0]
                offline.zero_grad()
                x.square().mean().backward()
            return x.detach()

        return step

    chunk = noise(1, causal.chunk_size)
    return {
        f"encode, 1 clip of {seconds:g} s": encode(clips(1, seconds)),
        f"encode, 16 clips of {seconds:g} s": encode(clips(16, seconds)),
        f"encode, 1 clip of {long:g} s": encode(clips(1, long)),
        f"decode, 1 clip of {seconds:g} s": decode(clips(1, seconds)),
        f"decode, 16 clips of {seconds:g} s": decode(clips(16, seconds)),
        "stream, 10 chunks to tokens": stream,
        f"training step of stage 1, 4 clips of {seconds:g} s": train("compressor", "decompressor"),
        f"training step of stage 2, 4 clips of {seconds:g} s": train("decoder"),
    }


def wait(device: torch.device) -> None:
    """Wait for the work that a GPU has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory(run: Run, device: torch.device) -> float:
    """Bytes that a run takes at the most; 0 if the device does not count them."""
    if device.type != "cuda":
        run()
        return 0.0
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    wait(device)
    return float(torch.cuda.max_memory_allocated(device) - before)


def seconds_of(run: Run, device: torch.device) -> float:
    """Time of a run."""
    wait(device)
    start = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - start


def equal(official: Tensor, ours: Tensor) -> float:
    """Share of equal values, %; those of floats to 1e-3."""
    if not official.is_floating_point():
        return 100 * (official == ours).double().mean().item()
    return 100 * torch.isclose(official, ours, rtol=1e-3, atol=1e-3).double().mean().item()


def line(name: str, official: Run, ours: Run, device: torch.device, repeats: int) -> str:
    """Row of the table: a case of both packages, measured in turn."""
    peaks = [memory(run, device) for run in (official, ours)]  # warms up, too
    share = equal(official(), ours())
    times: list[list[float]] = [[], []]
    for _ in range(repeats):
        for kept, run in zip(times, (official, ours), strict=True):
            kept.append(seconds_of(run, device))
    theirs, own = (statistics.median(kept) for kept in times)
    ratio = f"{peaks[0] / peaks[1]:.2f}" if all(peaks) else ""
    cells = [f"{1000 * theirs:.1f}", f"{1000 * own:.1f}", f"{theirs / own:.2f}", ratio]
    return f"| {name} | {' | '.join(cells)} | {share:.1f} |"


def main() -> None:
    """Make the codecs, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", help="folder of the official repository, with focalcodec/ in it")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    parser.add_argument("--size", default="published", choices=SIZES, help="of the codecs")
    parser.add_argument("--repeats", type=int, default=10, help="rounds of each case")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("skipped: needs a GPU; --device cpu --size small tries the benchmark without one")
        return
    *configs, seconds, long = SIZES[args.size]
    made: dict[str, dict[str, Run]] = {}
    weights: list[dict[str, Tensor]] = []  # of ours
    torch.manual_seed(0)
    with torch.no_grad():
        for name, package in (
            ("ours", packages.ours()),
            ("official", packages.official(args.path)),
        ):
            codecs = [package.codec.FocalCodec(**config).eval().to(device) for config in configs]
            weights = weights or [codec.state_dict() for codec in codecs]
            for codec, state in zip(codecs, weights, strict=True):
                codec.load_state_dict(state)
            made[name] = cases(*codecs, seconds, long)
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        print(f"{where}, PyTorch {torch.__version__}, float32, codecs of {args.size} size\n")
        print("| | official, ms | ours, ms | ratio of time | ratio of memory | equal, % |")
        print("|---|---|---|---|---|---|")
        for name, ours in made["ours"].items():
            print(line(name, made["official"][name], ours, device, args.repeats), flush=True)


if __name__ == "__main__":
    main()
