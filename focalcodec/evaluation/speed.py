"""Speed and memory of a codec, measured in a separate process."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch

from focalcodec.audio import read_audio
from focalcodec.coders import CodecSpec, load_coder
from focalcodec.evaluation import EvaluationPlan
from focalcodec.evaluation.sets import ClipSet

REPEATS = 3
_T = TypeVar("_T")


def measure_speed(plan: EvaluationPlan, clip_set: ClipSet, spec: CodecSpec) -> dict[str, Any]:
    """Measure the speed of encoding and decoding, and the peak memory.

    The batch size is 1, and clips have medium length. After a warm-up, the result is the median
    over clips and repeats. It includes the time to start a program (ffmpeg), but not the time to
    resample to and from the codec's rate.

    Returns
    -------
    dict
        `encode_real_time_factor`, `decode_real_time_factor`: processing time / audio time, so below
        1 is faster than real time. `peak_memory_mb`: memory of the process with Python and
        libraries, or on a GPU the memory of its tensors there.
    """
    by_length = sorted(clip_set.clips, key=lambda clip: (clip.seconds, clip.id))
    start = max(0, (len(by_length) - plan.speed_clips) // 2)
    paths = [clip.input for clip in by_length[start : start + plan.speed_clips]]
    # In a separate process, so that its peak memory is that of this codec alone.
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        threads = torch.get_num_threads()
        work = executor.submit(_measure, spec, paths, plan.device, plan.window_seconds, threads)
        return work.result()


def read_speed(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the speed of a card of any version; empty if it was not measured.

    Cards of earlier versions have the inverse of the real-time factor, as `encode_rtf` and
    `decode_rtf`.

    Example
    -------
    >>> read_speed({"speed": {"encode_rtf": 200.0, "clips": 4}})
    {'clips': 4, 'encode_real_time_factor': 0.005}
    """
    speed = dict(card.get("speed") or {})
    for part in ("encode", "decode"):
        inverse = speed.pop(f"{part}_rtf", None)
        if isinstance(inverse, int | float) and inverse > 0:
            speed[f"{part}_real_time_factor"] = 1 / inverse
    return speed


@torch.no_grad()
def _measure(
    spec: CodecSpec, paths: Sequence[str], device: str, window_seconds: float, threads: int
) -> dict[str, Any]:
    torch.set_num_threads(threads)
    place = torch.device(device)
    coder = load_coder(spec, place, window_seconds)
    rate = coder.sample_rate_input
    encode, decode = [], []
    for index, path in enumerate(paths):
        sig = read_audio(path, rate, channels="mix")[None]
        lengths = torch.tensor([sig.shape[1]])
        # The first run of the first clip is the warm-up; it is not counted.
        for repeat in range(REPEATS + (index == 0)):
            sent, coding = _timed(lambda: coder.encode(sig, lengths), place)  # noqa: B023
            _, decoding = _timed(lambda: coder.decode(sent), place)  # noqa: B023
            if index or repeat:
                encode.append(coding * rate / sig.shape[1])
                decode.append(decoding * rate / sig.shape[1])
    return {
        "encode_real_time_factor": statistics.median(encode),
        "decode_real_time_factor": statistics.median(decode),
        "peak_memory_mb": _peak_megabytes(place),
        "clips": len(paths),
        "device": device,
        "threads": torch.get_num_threads(),
    }


def _timed(work: Callable[[], _T], device: torch.device) -> tuple[_T, float]:
    def settle() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    settle()
    start = time.perf_counter()
    made = work()
    settle()
    return made, max(time.perf_counter() - start, 1e-9)


def _peak_megabytes(device: torch.device) -> float | None:
    """Return the peak memory in 10^6 bytes; None if the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    status = Path("/proc/self/status")
    if status.is_file():  # the resource module's value includes that of the parent process
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next((int(x.split()[1]) * 1024 / 1e6 for x in lines if x.startswith("VmHWM:")), None)
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6
