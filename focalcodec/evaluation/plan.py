"""What a run is to do, what its processes learn, and the keys of what they keep."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from focalcodec import __version__
from focalcodec.coders.spec import CodecSpec
from focalcodec.errors import UserError
from focalcodec.evaluation.bootstrap import RESAMPLES
from focalcodec.evaluation.clips import ClipSet, EvalClip
from focalcodec.evaluation.folders import digest
from focalcodec.long_audio.coding import WINDOW_SECONDS
from focalcodec.tokenize.parts import plan_batches
from focalcodec.tokenize.plan import Shard


@dataclass(frozen=True)
class EvaluationPlan:
    """What is to be done; the same in every process.

    Parameters
    ----------
    sets, codecs : tuple
        Of `clips.read_sets` and `codecs.parse_specs`.
    out : Path
        Folder of the run.
    task : str
        One of `clips.TASKS`.
    panel : str
        Name of the judges' panel.
    device : str
        Of codecs and judges.
    seed, bootstrap_samples : int
        Of the intervals.
    batch_seconds, window_seconds : float
        Audio of a batch, padding included; longer clips go in windows of this length.
    speed_clips : int
        Clips that the speed is measured on; 0 leaves it out.
    command : str
        For the cards.
    """

    sets: tuple[ClipSet, ...]
    codecs: tuple[CodecSpec, ...]
    out: Path
    task: str = "resynthesis"
    panel: str = "offline"
    device: str = "cpu"
    seed: int = 1986
    bootstrap_samples: int = RESAMPLES
    batch_seconds: float = 60.0
    window_seconds: float = WINDOW_SECONDS
    speed_clips: int = 4
    command: str = ""

    def __post_init__(self) -> None:
        """Refuse what would share a folder."""
        names = [clip_set.name.lower() for clip_set in self.sets]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"{name}: two sets of this name; rename one of the sources")
        for spec in self.codecs:
            if spec.folder.lower() in ("reference", "input", "target"):
                raise UserError(f"codecs: {spec.label}: the name is taken; give NAME={spec.label}")

    def batches(self, clip_set: ClipSet, shard: Shard) -> list[list[EvalClip]]:
        """Batches of clips of like length that a process sees to, longest first."""
        clips = clip_set.clips
        short = {i: c.seconds for i, c in enumerate(clips) if c.seconds <= self.window_seconds}
        batches = [[i] for i in range(len(clips)) if i not in short]
        batches += plan_batches(short, self.batch_seconds)
        return [[clips[i] for i in batch] for batch in batches[shard.index :: shard.count]]


@dataclass
class Found:
    """What a process learnt while it did its share: JSON-ready.

    `coders` has `Coder.describe()` by label, `refused` the reason of each codec that can't be had;
    `judges` has name, columns and description of each judge, `missing` the reason of the others.
    """

    coders: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    judges: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def coded_key(plan: EvaluationPlan, clip_set: ClipSet, coder: dict[str, Any]) -> str:
    """Key of what a codec makes of a set."""
    known = {
        name: value
        for name, value in coder.items()
        if name != "source" or not coder["weights_sha256"]
    }
    return digest(__version__, plan.task, clip_set.sha256, known)


def score_key(
    plan: EvaluationPlan, clip_set: ClipSet, coder: dict[str, Any], judge: dict[str, Any]
) -> str:
    """Key of what a judge says of it."""
    return digest(coded_key(plan, clip_set, coder), judge["describe"])
