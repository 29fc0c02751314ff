"""Size, speed, memory and equal tokens of a codec on onnxruntime, beside PyTorch.

    python benchmarks/on_device.py demo --audio corpus/LibriSpeech/test-real
    python benchmarks/on_device.py demo --audio corpus/LibriSpeech/test-mini --words
    python benchmarks/on_device.py 50hz --dtypes float32 float16 int8 --rounds 3
    python benchmarks/on_device.py demo --dtypes float32 --executorch

50hz, 25hz, 12.5hz and causal are codecs of the paper's size with random weights. --words needs the
extra whisper-tiny: it prints word errors against the transcripts of the recordings, by Whisper
tiny.en. One thread; times are those of the processor in this program, and the programs take turns,
so other work on the machine changes little. Of a causal codec, the steps of a stream are measured
too. Each export is a process of its own, whose peak memory is printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from codec_speed import paper_codec, resident_mb
from streaming import released

import focalcodec.streaming as streaming
from focalcodec import FocalCodec
from focalcodec.audio import read_audio
from focalcodec.executorch import export_executorch
from focalcodec.executorch.export import DESCRIPTION
from focalcodec.executorch.programs import Programs
from focalcodec.files import AUDIO_SUFFIXES, read_json
from focalcodec.onnx import export_onnx
from focalcodec.onnx.check import SPEECH
from focalcodec.onnx_runtime import DecoderSession, EncoderSession, OnnxCodec
from focalcodec.precision import pack_weights, set_precision

DTYPES = ("float32", "float16", "int8")
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
PAPER = {
    "50hz": paper_codec,
    "25hz": partial(paper_codec, (2, 1, 1)),
    "12.5hz": partial(paper_codec, (2, 2, 1)),
    "causal": released,
}


def main() -> None:
    """Export, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("codec", help=f"name or folder, or {', '.join(PAPER)}: the paper's size")
    parser.add_argument("--audio", type=Path, nargs="+", default=[], help="folders of clips")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32", "int8"])
    parser.add_argument("--rounds", type=int, default=9, help="of measurements; 0: export only")
    parser.add_argument("--words", action="store_true", help="also word errors")
    parser.add_argument("--executorch", action="store_true", help="also size and speed of this")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        places, found = {}, {}
        for dtype in args.dtypes:
            places[dtype] = f"{folder}/{dtype}"
            with _fresh_process() as process:
                exported = process.submit(_export, args.codec, places[dtype], dtype).result()
            size = sum(path.stat().st_size for path in Path(places[dtype]).glob("*.onnx")) / 1e6
            print(f"{dtype}: {size:.1f} MB, {exported}", flush=True)
            if dtype != "float16":  # it is computed as float32
                found[dtype] = OnnxCodec.from_pretrained(places[dtype], threads=1)
        paths = [path for root in args.audio for path in sorted(root.rglob("*"))]
        clips = [path for path in paths if path.suffix in AUDIO_SUFFIXES]
        if clips:
            _equal(_load(args.codec), found, clips)
        if args.words:
            _words(found, clips)
        if not args.rounds:
            return
        if args.executorch:
            found["executorch"] = _programs(args.codec, f"{folder}/programs")
        _speed(args.codec, found, args.rounds)
        found.clear()
        places = {"torch": _saved(args.codec, f"{folder}/codec"), **places}
        for name, place in places.items():
            print(f"{name}: peak memory {_peak(name, place):.0f} MB, of the whole process, 10 s")


def _load(name: str) -> FocalCodec:
    return PAPER[name]() if name in PAPER else FocalCodec.from_pretrained(name)


def _fresh_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _export(name: str, folder: str, dtype: str) -> str:
    """What an export took, and how well it agrees."""
    torch.set_num_threads(1)
    codec = _load(name)
    start = time.process_time()
    agreement = export_onnx(codec, folder, dtype)
    took = time.process_time() - start
    peak = resident_mb("VmHWM")
    return f"exported in {took:.0f} s of one processor with {peak:.0f} MB of memory; {agreement}"


def _programs(name: str, folder: str) -> OnnxCodec:
    """ExecuTorch programs, exported in this process, with the calls of a bundle, on one thread."""
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool

    print(f"executorch: {export_executorch(_load(name), folder)}", flush=True)
    for path in sorted(Path(folder).glob("*.pte")):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    _unsafe_reset_threadpool(1)
    return OnnxCodec(Programs(Path(folder), read_json(Path(folder, DESCRIPTION), "export again")))


def _saved(name: str, folder: str) -> str:
    """Name or folder of a codec, which is saved if it is of the paper's size."""
    if name not in PAPER:
        return name
    _load(name).save_pretrained(folder)
    return folder


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


def _speed(name: str, found: dict[str, OnnxCodec], rounds: int) -> None:
    """Print median times of 10 s of speech, each program's over that of PyTorch in float32."""
    codec, small = _load(name), set_precision(_load(name), "int8")
    sig = read_audio(SPEECH, codec.sample_rate_input)[None]
    toks = codec.encode(sig, codec.sample_rate_input)[0]
    runs: dict[str, Runs] = {}
    for label, each in {"torch": codec, "torch int8": small}.items():
        runs[label] = {
            "encode": lambda each=each: each.encode(sig, each.sample_rate_input),
            "decode": lambda each=each: each.decode(toks),
        }
    for dtype, other in found.items():
        runs[_label(dtype)] = {
            "encode": lambda other=other: other.encode(sig.numpy()),
            "decode": lambda other=other: other.decode(toks.numpy()),
        }
    _ratios(runs, rounds)
    if codec.causal:
        _ratios(_streams(codec, small, name, found, sig, toks), rounds)


Runs = dict[str, Callable[[], object]]


def _label(dtype: str) -> str:
    return dtype if dtype == "executorch" else f"onnx {dtype}"


def _streams(
    codec: FocalCodec,
    small: FocalCodec,
    name: str,
    found: dict[str, OnnxCodec],
    sig: torch.Tensor,
    toks: torch.Tensor,
) -> dict[str, Runs]:
    """A second of a stream in each program, after ten: its state is full."""
    packed = pack_weights(_load(name))
    sessions: dict[str, tuple[Any, Any]] = {
        label: (streaming.EncoderSession(each), streaming.DecoderSession(each))
        for label, each in {"torch": codec, "torch packed": packed, "torch int8": small}.items()
    }
    for dtype, other in found.items():
        sessions[_label(dtype)] = EncoderSession(other), DecoderSession(other)
    second, some = sig[:, : codec.sample_rate_input], toks[:, : round(codec.token_rate)]
    for encoder, decoder in sessions.values():
        encoder.push(sig)
        decoder.push(toks)
    return {
        label: {
            "encode a stream": lambda encoder=encoder: encoder.push(second),
            "decode a stream": lambda decoder=decoder: decoder.push(some),
        }
        for label, (encoder, decoder) in sessions.items()
    }


def _ratios(runs: dict[str, Runs], rounds: int) -> None:
    """Print the median time of each call over that of the first program, which take turns."""
    times: dict[str, dict[str, list[float]]] = {
        label: {call: [] for call in calls} for label, calls in runs.items()
    }
    for number in range(rounds + 1):
        for label, calls in runs.items():
            for call, run in calls.items():
                start = time.process_time()
                run()
                if number:  # the first one loads and warms up
                    times[label][call].append(time.process_time() - start)
    base = {call: statistics.median(taken) for call, taken in next(iter(times.values())).items()}
    for label, calls in times.items():
        ratios = [f"{call} {statistics.median(calls[call]) / base[call]:.2f}" for call in calls]
        print(f"{label}: {', '.join(ratios)} of the time of torch", flush=True)


def _peak(name: str, place: str) -> float:
    """Peak memory of a process that encodes and decodes 10 s, MB; Linux only."""
    program = READ + (ON_TORCH if name == "torch" else ON_ONNX) + PEAK
    words = [sys.executable, "-c", program, str(SPEECH), place]
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
