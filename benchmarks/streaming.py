"""Time of a chunk of a stream on one core: the released causal model, with random weights.

    python benchmarks/streaming.py
    python benchmarks/streaming.py --official official   # a checkout of it
    python benchmarks/streaming.py --precisions float32 bfloat16 int8 --seconds 600
    python benchmarks/streaming.py --precisions float32 int8 --streams 1 2 4 8 --warm_up 10
    python benchmarks/streaming.py --model demo-stream

Encoder and decoder together take chunks of 80 ms, in turns with what they are compared with, so
that a busy machine slows all of them. The state is past its window. Prints the 50th, 95th and 99th
percentile in ms, the ratio of the medians to the first line, and how many tokens and bits equal
those of the first line of ours. Where there are more streams, times are for all of them, and
`each` is the median divided by their number. The limit is the time to read all weights once at the
measured bandwidth. An AVX-512 machine is restricted to AVX2 by these variables:

    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2
    FBGEMM_ENABLE_INSTRUCTIONS=AVX2
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from focalcodec import FocalCodec
from focalcodec.nn.packed import PACKED
from focalcodec.precision import pack_weights
from focalcodec.streaming import DecoderSession, EncoderSession

CHUNK = 1280  # samples
WARM_UP = 132  # chunks: past the window of 512 frames

Step = Callable[[Tensor], Tensor]


def released() -> FocalCodec:
    """The released 4k model, causal, 249 M parameters, with random weights of a seed."""
    torch.manual_seed(0)
    causal = {"causal": True}
    return FocalCodec(
        encoder_config=causal,
        compressor_config=causal,
        decompressor_config=causal,
        decoder_config=causal,
    ).eval()


def ours(codec: FocalCodec, batch: int = 1, dtype: torch.dtype | None = None) -> Step:
    """A chunk through two sessions; the result is its tokens."""
    encoder = EncoderSession(codec, batch, state_dtype=dtype)
    decoder = DecoderSession(codec, batch, state_dtype=dtype)

    def step(sig: Tensor) -> Tensor:
        toks = encoder.push(sig)
        decoder.push(toks)
        return toks

    return step


def apart(codec: FocalCodec, number: int) -> Step:
    """The rows of a chunk, each through two sessions of its own."""
    steps = [ours(codec) for _ in range(number)]
    return lambda sig: torch.cat([step(row[None]) for step, row in zip(steps, sig, strict=True)])


def official(path: str) -> Step:
    """The same through the official package at `path`, as its demo does."""
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if "focalcodec" in name}
    sys.path.insert(0, path)
    import focalcodec as package  # the official one

    torch.manual_seed(0)
    causal = {"causal": True}
    codec = package.FocalCodec(
        encoder_config=causal,
        compressor_config=causal,
        decompressor_config=causal,
        decoder_config=causal,
    ).eval()
    for name in [name for name in sys.modules if "focalcodec" in name]:
        del sys.modules[name]
    sys.modules.update(kept)
    sys.path.remove(path)
    states: list[Any] = [(), (), (), ()]

    @torch.no_grad()
    def step(sig: Tensor) -> Tensor:
        toks, *states[:2] = codec.sig_to_toks(sig, *states[:2], return_state=True)
        _, *states[2:] = codec.toks_to_sig(toks, *states[2:], return_state=True)
        return toks

    return step


def bandwidth() -> float:
    """Bytes a second that one core reads from memory, the fastest of some tries."""
    block = torch.zeros(2**26)  # 268 MB
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        block.sum()
        seconds.append(time.perf_counter() - start)
    return block.nbytes / min(seconds)


def measure(
    steps: dict[str, tuple[Step, int]], sig: Tensor, warm_up: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Seconds of each chunk, (chunks,), and toks (1, N) of each step, which take turns.

    sig is (1, T); a step gets it in as many rows as it has streams.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    toks: dict[str, list[Tensor]] = {name: [] for name in steps}
    for number, chunk in enumerate(sig.split(CHUNK, dim=1)):
        for name, (step, streams) in steps.items():
            rows = chunk.expand(streams, -1)
            start = time.perf_counter()
            toks[name].append(step(rows)[:1])
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return {name: (torch.tensor(seconds[name]), torch.cat(toks[name], dim=1)) for name in steps}


def add_ours(
    steps: dict[str, tuple[Step, int]], codec: FocalCodec, label: str, streams: list[int]
) -> None:
    """Add steps of this codec, in one batch and in sessions of their own."""
    for number in streams:
        if number == 1:
            steps[label] = ours(codec), 1
        else:
            steps[f"{label}, batch of {number}"] = ours(codec, number), number
            steps[f"{label}, {number} sessions"] = apart(codec, number), number


def report(name: str, seconds: Tensor, streams: int, first: Tensor) -> str:
    """Percentiles, ms, of the time of a chunk, share of each stream, ratio to `first`."""
    levels = 1000 * torch.quantile(seconds, torch.tensor([0.5, 0.95, 0.99]))
    line = " ".join(f"{level:6.1f}" for level in levels.tolist())
    return f"{name:32s} {line} {levels[0] / streams:6.1f} {float(seconds.median() / first):6.2f}"


def main() -> None:
    """Measure and print one line a step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="causal codec; default: the released size, random weights")
    parser.add_argument("--official", help="folder of the official repository")
    parser.add_argument(
        "--precisions",
        nargs="*",
        default=["stored", *PACKED],
        help="stored: float32 as loaded; the others are packed",
    )
    parser.add_argument("--streams", nargs="*", type=int, default=[1], help="streams at a time")
    parser.add_argument("--half_state", action="store_true", help="also float32 with float16 state")
    parser.add_argument("--seconds", type=float, default=40.0, help="audio; the start is not timed")
    parser.add_argument("--warm_up", type=int, default=WARM_UP, help="chunks that are not timed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    load = (lambda: FocalCodec.from_pretrained(args.model)) if args.model else released
    steps: dict[str, tuple[Step, int]] = {}
    if args.official:
        steps["official, float32"] = official(args.official), 1
    codec = load()
    weights = sum(parameter.nbytes for parameter in codec.parameters())
    for precision in args.precisions:
        if precision == "stored":
            add_ours(steps, codec, "as stored", args.streams)
        else:
            add_ours(steps, pack_weights(load(), precision), precision, args.streams)
    if args.half_state:
        steps["float32, state in float16"] = ours(pack_weights(load()), 1, torch.float16), 1
    sig = 0.1 * torch.randn(1, int(args.seconds * 16000) // CHUNK * CHUNK)
    results = measure(steps, sig, args.warm_up)

    limit = 1000 * weights / bandwidth()
    chunks = sig.shape[1] // CHUNK - args.warm_up
    print(f"{chunks} chunks; {weights / 1e6:.0f} MB of float32 weights are read in {limit:.1f} ms")
    print(f"{'ms of a chunk of 80 ms':32s}    p50    p95    p99   each  ratio  toks %  bits %")
    first = next(iter(results.values()))[0].median()
    reference = next(toks for name, (_, toks) in results.items() if "official" not in name)
    for name, (seconds, toks) in results.items():
        line = report(name, seconds, steps[name][1], first)
        if "official" not in name:  # its random weights are others
            bits = (codec.toks_to_codes(toks) > 0) == (codec.toks_to_codes(reference) > 0)
            equal = 100 * (toks == reference).float().mean(), 100 * bits.float().mean()
            line += f" {float(equal[0]):7.2f} {float(equal[1]):7.2f}"
        print(line)


if __name__ == "__main__":
    main()
