"""Small runs that several tests share; as a program, a slow run that can be killed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from focalcodec.coders import parse_specs
from focalcodec.evaluation import EvaluationPlan
from focalcodec.evaluation.run import evaluate
from focalcodec.evaluation.sets import SetOptions, read_sets
from focalcodec.metrics.judge import ClipJudge, Column, Judge, JudgedClip, Score, Verdict
from tests.unit.small_codecs import GOLDEN

CODEC = str(GOLDEN["tiny_50hz"])
SECONDS = {"a/1": 0.5, "a/2": 0.31, "b/1": 0.7, "b/2": 0.42, "b/3": 0.6}
CHANGING = ("created", "command", "speed")


class FakeJudge(ClipJudge):
    """Level of the output and its difference to the reference: fast, different for each codec."""

    name = "level meter"
    columns = (
        Column("level", "level", "dB", "none"),
        Column("distance", "distance, level meter", "", "lower"),
    )

    def __init__(self, version: str = "1", pause: float = 0.0) -> None:
        self.version, self.pause = version, pause

    def describe(self) -> dict[str, str]:
        return {"version": self.version}

    def score_clip(self, clip: JudgedClip) -> Verdict:
        time.sleep(self.pause)
        rms = [float(sig.square().mean().sqrt()) for sig in (clip.ref_sig, clip.rec_sig)]
        scores = {"distance": Score(abs(rms[0] - rms[1]), len(clip.ref_sig) / 16000)}
        if clip.target_sig is None:
            scores["level"] = Score(rms[1])
        return Verdict(scores, f"{clip.language} {clip.text}".strip())


def fake_judges(panel: str, device: str) -> tuple[list[Judge], list[str]]:
    return [FakeJudge()], ["other judge: not installed; run pip install other"]


def no_judges(panel: str, device: str) -> tuple[list[Judge], list[str]]:
    return [], ["all judges: not installed"]


def slow_judges(panel: str, device: str) -> tuple[list[Judge], list[str]]:
    return [FakeJudge(pause=0.2)], fake_judges(panel, device)[1]


def write_clips(folder: Path, seconds: dict[str, float] | None = None) -> Path:
    """Write noise with a changing level, of two speakers."""
    for seed, (name, length) in enumerate((seconds or SECONDS).items()):
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        count = round(16000 * length)
        swell = 0.2 + np.abs(np.sin(np.arange(count) / 1500))
        soundfile.write(path, 0.1 * swell * np.random.default_rng(seed).normal(size=count), 16000)
    return folder


def small_plan(
    out: Path,
    clips: Path,
    codecs: Sequence[str] = (),
    options: SetOptions | None = None,
    **more: Any,
) -> EvaluationPlan:
    specs = parse_specs(codecs or [f"tiny={CODEC}", "original"])
    plan = EvaluationPlan(
        tuple(read_sets(clips, options)), specs, out, speed_clips=0, batch_seconds=1.3
    )
    return replace(plan, bootstrap_samples=50, **more)


def read_cards(out: Path) -> dict[str, Any]:
    """Read cards without the parts that differ in each run."""
    cards = {path.parent.name: json.loads(path.read_text()) for path in out.rglob("card.json")}
    return {
        name: {key: value for key, value in card.items() if key not in CHANGING}
        for name, card in cards.items()
    }


if __name__ == "__main__":
    evaluate(small_plan(Path(sys.argv[2]), Path(sys.argv[1])), slow_judges)
