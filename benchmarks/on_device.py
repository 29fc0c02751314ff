"""Size, speed, memory and equal tokens of a codec on onnxruntime, beside PyTorch.

    python benchmarks/on_device.py demo --audio corpus/LibriSpeech/test-real
    python benchmarks/on_device.py demo --audio corpus/LibriSpeech/test-mini --words

Without a codec, one of the paper's size with random weights. --words needs the extra whisper-tiny:
it prints word errors against the transcripts of the recordings, by Whisper tiny.en.
One thread; the programs take turns, so other work on the machine slows all of them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from codec_speed import paper_codec

from focalcodec import FocalCodec
from focalcodec.audio import read_audio
from focalcodec.files import AUDIO_SUFFIXES
from focalcodec.onnx import export_onnx
from focalcodec.onnx.check import SPEECH
from focalcodec.onnx_runtime import OnnxCodec
from focalcodec.precision import set_precision

ROUNDS = 9
READ = """
import sys, soundfile
sig = soundfile.read(sys.argv[1], dtype="float32")[0][None]
"""
ON_TORCH = """
import torch
from focalcodec import FocalCodec
torch.set_num_threads(1)
codec = FocalCodec.from_pretrained(sys.argv[2])
codec.decode(codec.encode(sig, 16000)[0])
"""
ON_ONNX = """
from focalcodec.onnx_runtime import OnnxCodec
codec = OnnxCodec.from_pretrained(sys.argv[2], threads=1)
codec.decode(codec.encode(sig)[0])
"""
PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if "VmHWM" in line))
"""
CHILDREN = {"torch": READ + ON_TORCH, "float32": READ + ON_ONNX, "int8": READ + ON_ONNX}


def main() -> None:
    """Export, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("codec", nargs="?", help="name or folder; default: the paper's size")
    parser.add_argument("--audio", type=Path, nargs="+", required=True, help="folders of clips")
    parser.add_argument("--words", action="store_true", help="also word errors")
    args = parser.parse_args()
    torch.set_num_threads(1)

    def load() -> FocalCodec:
        return paper_codec() if args.codec is None else FocalCodec.from_pretrained(args.codec)

    with tempfile.TemporaryDirectory() as folder:
        if args.codec is None:
            load().save_pretrained(f"{folder}/paper")
        source, found = args.codec or f"{folder}/paper", {}
        for dtype in ("float32", "int8"):
            start = time.perf_counter()
            agreement = export_onnx(load(), f"{folder}/{dtype}", dtype)
            took = time.perf_counter() - start
            size = sum(path.stat().st_size for path in Path(folder, dtype).glob("*.onnx")) / 1e6
            print(f"{dtype}: {size:.1f} MB, exported in {took:.0f} s; {agreement}")
            found[dtype] = OnnxCodec.from_pretrained(f"{folder}/{dtype}", threads=1)
        paths = [path for root in args.audio for path in sorted(root.rglob("*"))]
        clips = [path for path in paths if path.suffix in AUDIO_SUFFIXES]
        _equal(load(), found, clips)
        _speed(load, found)
        for name in ("torch", "float32", "int8"):
            place = source if name == "torch" else f"{folder}/{name}"
            print(f"{name}: peak memory {_peak(name, place):.0f} MB, of the whole process, 10 s")
        if args.words:
            _words(found, clips)


def _equal(codec: FocalCodec, found: dict[str, OnnxCodec], clips: list[Path]) -> None:
    """Print how many tokens and bits are those of PyTorch in float32."""
    totals = {name: np.zeros(2) for name in found}
    toks = bits = 0
    for clip in clips:
        sig = read_audio(clip, codec.sample_rate_input, channels="mix")[None]
        expected = codec.encode(sig, codec.sample_rate_input)[0]
        codes = codec.toks_to_codes(expected)
        toks, bits = toks + expected.numel(), bits + codes.numel()
        for name, other in found.items():
            made = torch.from_numpy(other.sig_to_toks(sig.numpy()))
            same = codec.toks_to_codes(made) == codes
            totals[name] += [int((made == expected).sum()), int(same.sum())]
    for name, (same_toks, same_bits) in totals.items():
        print(
            f"{name}: {100 * same_toks / toks:.2f} % of {toks} tokens, {100 * same_bits / bits:.2f}"
            f" % of bits equal, {len(clips)} clips"
        )


def _speed(load: Callable[[], FocalCodec], found: dict[str, OnnxCodec]) -> None:
    """Print median times of 10 s of speech, each program's over that of PyTorch in float32."""
    codec, small = load(), set_precision(load(), "int8")
    sig = read_audio(SPEECH, codec.sample_rate_input)[None]
    toks = codec.encode(sig, codec.sample_rate_input)[0]
    runs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {}
    for name, each in {"torch": codec, "torch int8": small}.items():
        runs[name] = (
            lambda each=each: each.encode(sig, each.sample_rate_input),
            lambda each=each: each.decode(toks),
        )
    for name, other in found.items():
        runs[f"onnx {name}"] = (
            lambda other=other: other.encode(sig.numpy()),
            lambda other=other: other.decode(toks.numpy()),
        )
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in runs}
    for _ in range(ROUNDS):
        for name, calls in runs.items():
            for call, taken in zip(calls, times[name], strict=True):
                start = time.perf_counter()
                call()
                taken.append(time.perf_counter() - start)
    base = [statistics.median(taken) for taken in times["torch"]]
    for name, both in times.items():
        ratios = [statistics.median(taken) / b for taken, b in zip(both, base, strict=True)]
        print(f"{name}: encode {ratios[0]:.2f}, decode {ratios[1]:.2f} of the time of torch")


def _peak(name: str, place: str) -> float:
    """Peak memory of a process that encodes and decodes 10 s, MB; Linux only."""
    words = [sys.executable, "-c", CHILDREN[name] + PEAK, str(SPEECH), place]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout) / 1000


def _words(found: dict[str, OnnxCodec], clips: list[Path]) -> None:
    """Print dWER of float32 and int8, with the interval of their difference over clips."""
    from focalcodec.metrics.transcripts import word_errors
    from focalcodec.metrics.whisper import WhisperJudge

    judge = WhisperJudge("tiny.en")
    edits: dict[str, list[int]] = {"float32": [], "int8": []}
    words = []
    for clip in clips:
        sig = read_audio(clip, 16000, channels="mix").numpy()
        reference = judge.recognise(sig, "en")
        for name, errors in edits.items():
            made = found[name].toks_to_sig(found[name].sig_to_toks(sig[None]))[0]
            counted = word_errors(reference, judge.recognise(made, "en"))
            errors.append(counted.edits)
        words.append(counted.units)
    total = sum(words)
    rates = {name: 100 * sum(errors) / total for name, errors in edits.items()}
    difference = np.array(edits["int8"]) - np.array(edits["float32"])
    drawn = np.random.default_rng(0).integers(0, len(clips), (2000, len(clips)))
    means = 100 * difference[drawn].sum(axis=1) / np.array(words)[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    print(
        f"{total} words: dWER {rates['float32']:.1f} % in float32, {rates['int8']:.1f} % in int8;"
        f" difference {rates['int8'] - rates['float32']:+.1f} [{low:+.1f}, {high:+.1f}]"
    )


if __name__ == "__main__":
    with torch.no_grad():
        main()
