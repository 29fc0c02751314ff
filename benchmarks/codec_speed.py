"""Speed and memory of a codec of the paper's size with random weights, as ratios, in one run.

    python benchmarks/codec_speed.py --seconds 10 --long_seconds 60 --repeats 5 --threads 1

* overhead: `encode` and `decode` against the bare modules.
* matrix limit: floating point operations a second of `encode`, all of them counted and only those
  of matrix products and convolutions, over those of one Linear 1024 x 4096 measured in the same
  rounds. More than 100 % is possible: a convolution may be faster than a Linear.
* long audio: the cost of a second of the long clip over that of the short one.
* bf16: time of float32 over time of bfloat16, on CPUs with the instructions.
* memory: the most that a process held, over what it held after loading and one short clip. Linux
  only.

Everything that is compared runs in turn, `--repeats` times, and the best time of each counts: the
noise of a shared machine only ever adds. With one thread it is CPU time, else wall time. About 3
minutes and 3 GB on one CPU core.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from focalcodec import FocalCodec
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.precision import set_precision
from focalcodec.vocos import Vocos
from focalcodec.wavlm import WavLM

SAMPLE_RATE = 16000


def paper_codec(down: Sequence[int] = (1, 1, 1)) -> FocalCodec:
    """Make a codec of the paper, with random weights: at 50 Hz, or divided by factors `down`."""
    torch.manual_seed(0)
    options = {"focal_window": 7, "focal_factor": 2}
    compressor = FocalEncoder(
        output_dim=13, hidden_dims=(1024, 512, 256), downscale_factors=down, **options
    )
    decompressor = FocalDecoder(
        input_dim=13, hidden_dims=(256, 512, 1024), upscale_factors=down[::-1], **options
    )
    quantizer = BinarySphericalQuantizer(8192)
    return FocalCodec(WavLM(), compressor, quantizer, decompressor, Vocos()).eval()


def noise(seconds: float) -> Tensor:
    """(1, T) of noise."""
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(1, int(seconds * SAMPLE_RATE), generator=generator)


def bare_encode(codec: FocalCodec, sig: Tensor) -> Tensor:
    """Encoder, compressor, sign."""
    return codec.compressor(codec.encoder(sig)[0])[0] > 0


def bare_decode(codec: FocalCodec, codes: Tensor) -> Tensor:
    """Decompressor, decoder."""
    return codec.decoder(codec.decompressor(codes)[0])[0]


def best_times(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of the fastest of `repeats` rounds of each, in turn; one round more to warm up."""
    # of one thread, its own time: what others do on the machine meanwhile does not count
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return {name: min(seconds[1:]) for name, seconds in times.items()}


def count_operations(run: Callable[[], object]) -> int:
    """Floating point operations of matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def has_bf16() -> bool:
    """Tell whether this CPU multiplies bfloat16 matrices with instructions of its own."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and capabilities != "DEFAULT"


def peak_memory(direction: str, seconds: float, threads: int) -> float:
    """MB over the loaded codec that encoding or decoding takes; to be run in a fresh process."""
    torch.set_num_threads(threads)
    codec = paper_codec()
    runs = {"encode": codec.encode, "decode": codec.decode}
    tokens = torch.zeros(1, int(seconds * codec.token_rate), dtype=torch.int64)
    clip = noise(seconds) if direction == "encode" else tokens
    runs[direction](clip[:, : clip.shape[1] // 60])
    before = resident_mb("VmRSS")
    runs[direction](clip)
    return resident_mb("VmHWM") - before


def resident_mb(field: str) -> float:
    """MB in memory now (VmRSS) or at most so far (VmHWM); getrusage counts the parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1000


def measure_float32(codec: FocalCodec, args: argparse.Namespace) -> dict[str, float]:
    """Overhead, share of the matrix limit, and the cost of long audio."""
    linear = torch.nn.Linear(1024, 4096)
    rows = torch.randn(int(args.seconds * 50), 1024)
    sig, long_sig = noise(args.seconds), noise(args.long_seconds)
    toks, long_toks = codec.encode(sig, 16000)[0], codec.encode(long_sig, 16000)[0]
    codes = codec.toks_to_codes(toks)
    runs: dict[str, Callable[[], object]] = {
        "linear": lambda: [linear(rows) for _ in range(10)],
        "encode": lambda: codec.encode(sig, 16000),
        "bare_encode": lambda: bare_encode(codec, sig),
        "decode": lambda: codec.decode(toks),
        "bare_decode": lambda: bare_decode(codec, codes),
    }
    best = best_times(runs, args.repeats)
    # with the short ones in the same rounds once more: minutes later the machine is another
    runs = {name: runs[name] for name in ("encode", "decode")}
    runs["long_encode"] = lambda: codec.encode(long_sig, 16000)
    runs["long_decode"] = lambda: codec.decode(long_toks)
    both = best_times(runs, max(1, args.repeats // 2))
    limit = 10 * count_operations(lambda: linear(rows)) / best["linear"]
    length = args.long_seconds / args.seconds
    return {
        "encode_over_bare": best["encode"] / best["bare_encode"],
        "decode_over_bare": best["decode"] / best["bare_decode"],
        "limit_gflops": limit / 1e9,
        "encode_share_of_limit": count_operations(runs["encode"]) / best["encode"] / limit,
        "decode_share_of_limit": count_operations(runs["decode"]) / best["decode"] / limit,
        "encode_long_over_short": both["long_encode"] / both["encode"] / length,
        "decode_long_over_short": both["long_decode"] / both["decode"] / length,
        "encode_seconds_per_second": best["encode"] / args.seconds,
        "decode_seconds_per_second": best["decode"] / args.seconds,
    }


def measure_bf16(codec: FocalCodec, args: argparse.Namespace) -> dict[str, float]:
    """Float32 over bfloat16."""
    small = set_precision(paper_codec(), "bf16")
    sig = noise(args.seconds)
    toks = codec.encode(sig, 16000)[0]
    runs: dict[str, Callable[[], object]] = {
        "encode": lambda: codec.encode(sig, 16000),
        "bf16_encode": lambda: small.encode(sig, 16000),
        "decode": lambda: codec.decode(toks),
        "bf16_decode": lambda: small.decode(toks),
    }
    best = best_times(runs, args.repeats)
    both = (best["encode"] + best["decode"]) / (best["bf16_encode"] + best["bf16_decode"])
    return {
        "encode_fp32_over_bf16": best["encode"] / best["bf16_encode"],
        "decode_fp32_over_bf16": best["decode"] / best["bf16_decode"],
        "resynthesis_fp32_over_bf16": both,
    }


def measure_memory(args: argparse.Namespace) -> dict[str, float]:
    """Peaks of processes that do nothing else."""
    peaks = {}
    for direction in ("encode", "decode"):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            peak = pool.submit(peak_memory, direction, args.long_seconds, args.threads).result()
        peaks[f"{direction}_peak_mb"] = peak
    return peaks


def main() -> None:
    """Measure all and print it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of the short clip")
    parser.add_argument("--long_seconds", type=float, default=60.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    codec = paper_codec()
    print(f"{args.seconds:g} s and {args.long_seconds:g} s, {args.threads} threads, float32")
    with torch.no_grad():
        figures = measure_float32(codec, args)
        report(figures)
        if has_bf16():
            report(bf16 := measure_bf16(codec, args))
            figures |= bf16
        else:
            print("bf16                          left out: this CPU has no instructions for it")
    report(memory := measure_memory(args))
    if args.json is not None:
        args.json.write_text(json.dumps(figures | memory, indent=2) + "\n")


def report(figures: dict[str, float]) -> None:
    """Print one figure a line."""
    for name, value in figures.items():
        print(f"{name:30s}{value:8.3f}" if value < 50 else f"{name:30s}{value:8.0f}", flush=True)


if __name__ == "__main__":
    main()
