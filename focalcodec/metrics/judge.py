"""Judges: models or formulas that score pairs of clips; each judge has its own columns."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from focalcodec.audio import resample, validate_sig
from focalcodec.errors import UserError
from focalcodec.hub import hub_folder

SAMPLE_RATE = 16000  # Hz, of the input of every judge's model
SILENCE = 1e-4  # root mean square: 80 dB below full scale, three steps of 16 bits
LEAST_SECONDS = 0.5  # less than a word: too short for judges of voice or quality


@dataclass(frozen=True)
class JudgedClip:
    """A reference and the output of a codec.

    Raises `UserError` if a signal is not (T,) float, empty, NaN or infinite.

    Example
    -------
    >>> JudgedClip("a", torch.zeros(800), torch.zeros(801), 16000).language
    'en'
    """

    id: str  # name within its set
    ref_sig: Tensor  # (T,) float, about [-1, 1]: clean, even if the codec's input was noisy
    rec_sig: Tensor  # (T',) float: the output
    sample_rate: int  # Hz, of all signals
    text: str = ""  # true transcript, or "" if it is not known
    language: str = "en"  # ISO 639-1
    # (T'',) another recording of the wanted speaker: voice conversion. Judges that compare output
    # and reference sample by sample or frame by frame then give no score.
    target_sig: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("ref_sig", "rec_sig", "target_sig"):
            sig = getattr(self, name)
            if sig is None and name == "target_sig":
                continue
            if sig.dim() != 1:
                raise UserError(f"{self.id}: {name} has shape {tuple(sig.shape)}; give (samples,)")
            try:
                validate_sig(sig[None])
            except UserError as error:
                raise UserError(f"{self.id}: {name}: {error}") from error

    @property
    def speaker_sig(self) -> Tensor:
        """A recording of the wanted speaker: `target_sig` in voice conversion, else `ref_sig`."""
        return self.ref_sig if self.target_sig is None else self.target_sig


class Score(NamedTuple):
    """One value of one clip; the value of a set is sum(value * weight) / sum(weight).

    The weight of a word error rate is the number of words, so the value of a set is all its errors
    over all its words.
    """

    value: float
    weight: float = 1.0


class Verdict(NamedTuple):
    """A judge's result for one clip.

    `scores` has no entry for a column without a value: the clip is silent, too short for this
    judge, in a language the judge was not trained on, or has no text. Values are always finite.
    `transcript` is the text of the output, for judges that recognise speech.
    """

    scores: dict[str, Score]
    transcript: str = ""


@dataclass(frozen=True)
class Column:
    """Description of one kind of score; no two judges share a column."""

    key: str  # such as "dwer_whisper_base"
    title: str  # with the judge's name: "dWER, Whisper base"
    unit: str  # "%", "MOS", "dB" or ""
    better: Literal["lower", "higher", "none"]


class Judge(ABC):
    """Scores clips. The constructor finds and checks the weights; the first score loads them.

    `name` is unique in a panel; `columns` are all that `score` may give.
    """

    name: str
    columns: tuple[Column, ...]

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Everything that scores depend on: packages with versions, weights, settings."""

    @abstractmethod
    def score(self, clips: Sequence[JudgedClip]) -> list[Verdict]:
        """Score any number of clips, one verdict each, in order; no clip influences another."""


class ClipJudge(Judge):
    """A judge that scores one clip at a time."""

    def score(self, clips: Sequence[JudgedClip]) -> list[Verdict]:
        """Score clips, one after the other."""
        return [self.score_clip(clip) for clip in clips]

    @abstractmethod
    def score_clip(self, clip: JudgedClip) -> Verdict:
        """Score one clip."""


class SignalJudge(ClipJudge):
    """A judge of signals that are long enough and not silent.

    If the reference is too short or silent, there is no score. If only the output is, it gets the
    lowest value of each column's scale, so that silent output does not improve a codec's figures.
    """

    least_seconds = LEAST_SECONDS  # duration of the shortest signal that can be judged
    # Column key -> value of a silent or too short output; None: it is scored like any other.
    least: dict[str, float] | None = None
    # Output and reference are compared at the same time, which is meaningless for converted speech:
    # no score for clips with a `target_sig`.
    frame_by_frame = False

    def score_clip(self, clip: JudgedClip) -> Verdict:
        """Score one clip."""
        if self.frame_by_frame and clip.target_sig is not None:
            return Verdict({})
        if not audible(clip.speaker_sig, clip.sample_rate, self.least_seconds):
            return Verdict({})
        has_output = audible(clip.rec_sig, clip.sample_rate, self.least_seconds)
        if self.least is not None and not has_output:
            return Verdict({key: Score(value) for key, value in self.least.items()})
        figures = self.figures(clip)
        return Verdict({k: Score(value) for k, value in figures.items() if math.isfinite(value)})

    @abstractmethod
    def figures(self, clip: JudgedClip) -> dict[str, float]:
        """Values by column key; a missing, NaN or infinite value counts as no score."""


# -- signals ---------------------------------------------------------------------------------------


def at_rate(sig: Tensor, sample_rate: int, judge_rate: int) -> Tensor:
    """Resample a signal (T,) to a judge's rate, Hz: (T',) float32 on the CPU."""
    return resample(sig.detach().cpu().float()[None], sample_rate, judge_rate)[0][0]


def sig_key(sig: Tensor, sample_rate: int) -> str:
    """Key of a signal's samples and rate, to process a reference once for many codecs."""
    samples = sig.detach().cpu().float().contiguous().numpy()
    return f"{sample_rate} {hashlib.sha256(samples.tobytes()).hexdigest()}"


def fit_length(sig: Tensor, length: int) -> Tensor:
    """Cut a signal (T,) to (length,), or pad it with silence: missing output lowers the score."""
    return torch.nn.functional.pad(sig[:length], (0, max(0, length - len(sig))))


def audible(sig: Tensor, sample_rate: int, seconds: float = 0.0) -> bool:
    """Whether a signal (T,) has at least this duration and is not silent (constants are silent).

    Example
    -------
    >>> audible(torch.ones(16000), 16000), audible(torch.randn(16000), 16000, seconds=2)
    (False, False)
    """
    long_enough = len(sig) >= seconds * sample_rate
    return long_enough and bool((sig - sig.mean()).square().mean().sqrt() > SILENCE)


# -- weights ---------------------------------------------------------------------------------------


def judge_folder(source: str, patterns: Sequence[str], weights: Sequence[str]) -> tuple[Path, Path]:
    """Find a judge's model in a local folder or on the hub: its folder and the file of weights.

    No hash of these weights is pinned: a judge's `describe` records the file that was used. Raises
    `UserError` if the model is neither in a folder, nor on the hub, nor in its cache.

    Parameters
    ----------
    source : str
        Folder, or repository on the hub.
    patterns : sequence of str
        Files needed beside the weights, as shell patterns.
    weights : sequence of str
        Possible names of the weights, the best first; the first that exists is used, and no other
        is downloaded.
    """
    files = " ".join(f"--include '{pattern}'" for pattern in (*patterns, *weights))
    way_out = f"on a machine with a network, run hf download {source} {files}"
    path = Path(source)
    for name in weights:
        try:
            folder = path if path.is_dir() else hub_folder(source, [*patterns, name])
        except UserError as error:
            raise UserError(
                f"{source}: not a folder, not in the hub's cache, and the hub gave none; {way_out}"
            ) from error
        if (folder / name).is_file():
            return folder, folder / name
    raise UserError(f"{source}: no {' or '.join(weights)} in it; {way_out}")
