"""What a judge is: it hears pairs of clips and gives each a score in columns of its own."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from focalcodec.audio import resample, validate_sig
from focalcodec.errors import UserError

SILENCE = 1e-4  # root mean square: 80 dB below full scale, three steps of 16 bits
LEAST_SECONDS = 0.5  # less than a word: no judge of voice or quality was made for it


@dataclass(frozen=True)
class Clip:
    """A recording and what came out of a codec.

    Parameters
    ----------
    id : str
        Name within its set.
    ref_sig, rec_sig : Tensor
        (T,) and (T',) float, about [-1, 1]: the wanted signal, clean where the codec was given a
        noisy one, and the output.
    sample_rate : int
        Of all signals, Hz.
    text : str
        What is said, or "" where it is not known.
    language : str
        ISO 639-1.
    target_sig : Tensor, optional
        (T'',) another recording of the wanted speaker: voice conversion. The output then is not
        the reference in another coding: judges that compare sample by sample or frame by frame
        give it no score.

    Raises
    ------
    UserError
        A signal is not (T,) float, empty, NaN or infinite.

    Example
    -------
    >>> Clip("a", torch.zeros(800), torch.zeros(801), 16000).language
    'en'
    """

    id: str
    ref_sig: Tensor
    rec_sig: Tensor
    sample_rate: int
    text: str = ""
    language: str = "en"
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


class Score(NamedTuple):
    """One figure of one clip; a set's is sum(value * weight) / sum(weight).

    A word error rate has the words as its weight, so a set's is all its errors over all its words.
    """

    value: float
    weight: float = 1.0


class Verdict(NamedTuple):
    """What a judge says of one clip.

    A column that is missing in `scores` has no figure for this clip: it is silent, too short for
    this judge, in a language that it does not know, or what it needs (a text) is not there. A
    figure is never NaN or infinite.

    `transcript` is the text of the output, for judges that recognise speech.
    """

    scores: dict[str, Score]
    transcript: str = ""


@dataclass(frozen=True)
class Column:
    """A figure's place: no two judges share one.

    Parameters
    ----------
    key : str
        Such as "dwer_whisper_base".
    title : str
        With the judge's name: "dWER, Whisper base".
    unit : str
        "%", "MOS", "dB" or "".
    better : {"lower", "higher", "none"}
        Which way is better.

    Example
    -------
    >>> Column("stoi", "STOI", "", "higher").better
    'higher'
    """

    key: str
    title: str
    unit: str
    better: Literal["lower", "higher", "none"]


class Judge(ABC):
    """Scores clips. A constructor finds and checks the weights; the first score loads them.

    Attributes
    ----------
    name : str
        One of a kind in a panel.
    columns : tuple of Column
        What `score` may give.
    """

    name: str
    columns: tuple[Column, ...]

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Everything a figure depends on: packages with versions, weights, settings."""

    @abstractmethod
    def score(self, clips: Sequence[Clip]) -> list[Verdict]:
        """Judge clips, each as if it were alone.

        Parameters
        ----------
        clips : sequence of Clip
            Any number.

        Returns
        -------
        list of Verdict
            One a clip, in order.
        """


class ClipJudge(Judge):
    """A judge that hears one clip after the other."""

    def score(self, clips: Sequence[Clip]) -> list[Verdict]:
        """Judge clips, each alone."""
        return [self.score_clip(clip) for clip in clips]

    @abstractmethod
    def score_clip(self, clip: Clip) -> Verdict:
        """Judge one clip."""


class SignalJudge(ClipJudge):
    """A judge of signals that are long enough and not silent.

    There is no score where the reference is neither: nothing was to be kept. Where only the output
    is too short or silent, it has the least value of each column's scale, so that a codec gains
    nothing by falling silent.

    Attributes
    ----------
    least_seconds : float
        Shortest signal that can be judged.
    least : dict, optional
        Value of a silent or too short output for each column's key; without it, it is judged as
        any other.
    frame_by_frame : bool
        The output is compared with the reference at the same time, which says nothing of
        converted speech: no score where a clip has a `target_sig`.
    """

    least_seconds = LEAST_SECONDS
    least: dict[str, float] | None = None
    frame_by_frame = False

    def score_clip(self, clip: Clip) -> Verdict:
        """Judge one clip."""
        wanted = clip.ref_sig if clip.target_sig is None else clip.target_sig
        if self.frame_by_frame and clip.target_sig is not None:
            return Verdict({})
        if not audible(wanted, clip.sample_rate, self.least_seconds):
            return Verdict({})
        has_output = audible(clip.rec_sig, clip.sample_rate, self.least_seconds)
        if self.least is not None and not has_output:
            return Verdict({key: Score(value) for key, value in self.least.items()})
        figures = self.figures(clip)
        return Verdict({k: Score(value) for k, value in figures.items() if math.isfinite(value)})

    @abstractmethod
    def figures(self, clip: Clip) -> dict[str, float]:
        """Value of each column; one that is left out, NaN or infinite is no score."""


def at_rate(sig: Tensor, sample_rate: int, judge_rate: int) -> Tensor:
    """Signal at a judge's rate, on the CPU.

    Parameters
    ----------
    sig : Tensor
        (T,) float.
    sample_rate, judge_rate : int
        Hz.

    Returns
    -------
    Tensor
        (T',) float32.

    Example
    -------
    >>> at_rate(torch.zeros(240), 24000, 16000).shape
    torch.Size([160])
    """
    return resample(sig.detach().cpu().float()[None], sample_rate, judge_rate)[0][0]


def sig_key(sig: Tensor, sample_rate: int) -> str:
    """Key of a signal's samples, to judge a reference once for many codecs.

    Parameters
    ----------
    sig : Tensor
        (T,) float.
    sample_rate : int
        Hz.

    Returns
    -------
    str
        The same for the same samples at the same rate.

    Example
    -------
    >>> sig_key(torch.zeros(3), 8000) == sig_key(torch.zeros(3), 16000)
    False
    """
    samples = sig.detach().cpu().float().contiguous().numpy()
    return f"{sample_rate} {hashlib.sha256(samples.tobytes()).hexdigest()}"


def fit(sig: Tensor, length: int) -> Tensor:
    """Cut a signal, or fill it up with silence: what an output lacks counts against it.

    Parameters
    ----------
    sig : Tensor
        (T,) float.
    length : int
        Samples.

    Returns
    -------
    Tensor
        (length,).

    Example
    -------
    >>> fit(torch.ones(2), 3), fit(torch.ones(4), 3)
    (tensor([1., 1., 0.]), tensor([1., 1., 1.]))
    """
    return torch.nn.functional.pad(sig[:length], (0, max(0, length - len(sig))))


def audible(sig: Tensor, sample_rate: int, seconds: float = 0.0) -> bool:
    """Whether a signal is as long as a judge needs, and not silence.

    Parameters
    ----------
    sig : Tensor
        (T,) float.
    sample_rate : int
        Hz.
    seconds : float
        Least duration.

    Returns
    -------
    bool
        False also for a constant, however large: that is no sound.

    Example
    -------
    >>> audible(torch.ones(16000), 16000), audible(torch.randn(16000), 16000, seconds=2)
    (False, False)
    """
    long_enough = len(sig) >= seconds * sample_rate
    return long_enough and bool((sig - sig.mean()).square().mean().sqrt() > SILENCE)
