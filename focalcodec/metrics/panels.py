"""Panels of judges: those of the papers, and those that need no model hub."""

from __future__ import annotations

from collections.abc import Callable

from focalcodec.errors import UserError
from focalcodec.metrics.distillmos import DistillMosJudge
from focalcodec.metrics.dnsmos import DnsmosJudge
from focalcodec.metrics.judge import Judge
from focalcodec.metrics.perceptual import PesqJudge, StoiJudge
from focalcodec.metrics.resemblyzer import ResemblyzerJudge
from focalcodec.metrics.spectral import SpectralJudge
from focalcodec.metrics.utmos import UtmosJudge
from focalcodec.metrics.wavlm_sv import WavlmSvJudge
from focalcodec.metrics.whisper import WhisperJudge
from focalcodec.metrics.whisper_small import WhisperSmallJudge

JudgeFactory = Callable[[str], Judge]

_BOTH: dict[str, JudgeFactory] = {
    "DNSMOS": DnsmosJudge,
    "PESQ": PesqJudge,
    "STOI": StoiJudge,
    "spectral": SpectralJudge,
}
_OFFLINE: dict[str, JudgeFactory] = {
    "Whisper base": lambda device: WhisperJudge("base", device),
    "Whisper tiny.en": lambda device: WhisperJudge("tiny.en", device),
    "Resemblyzer": ResemblyzerJudge,
    "Distill-MOS": DistillMosJudge,
    **_BOTH,
}
PANELS: dict[str, dict[str, JudgeFactory]] = {
    "paper": {
        "UTMOS": UtmosJudge,
        "Whisper small": WhisperSmallJudge,
        "WavLM-base-sv": WavlmSvJudge,
        **_BOTH,
    },
    "offline": _OFFLINE,
    # A codec that Whisper base taught is not to be judged by its teacher.
    "offline_tiny": {name: make for name, make in _OFFLINE.items() if name != "Whisper base"},
}


def panel(name: str) -> dict[str, JudgeFactory]:
    """Judges of a panel, none of them made yet.

    Parameters
    ----------
    name : {"offline", "offline_tiny", "paper"}
        Panel.

    Returns
    -------
    dict
        Judge's name to what makes it, given a device.

    Raises
    ------
    UserError
        No such panel.

    Example
    -------
    >>> list(panel("paper"))[:3]
    ['UTMOS', 'Whisper small', 'WavLM-base-sv']
    """
    if name not in PANELS:
        raise UserError(f"panel: {name!r}; give one of {', '.join(sorted(PANELS))}")
    return dict(PANELS[name])


def load_panel(name: str, device: str = "cpu") -> tuple[list[Judge], list[str]]:
    """Judges of a panel that are installed, and what is missing for the others.

    Weights are found and checked here, and loaded at a judge's first score.

    Parameters
    ----------
    name : {"offline", "offline_tiny", "paper"}
        Panel.
    device : str
        Such as "cpu" or "cuda".

    Returns
    -------
    judges : list of Judge
        Ready.
    missing : list of str
        A line for each of the others, with the command that brings it.

    Raises
    ------
    UserError
        No such panel.
    """
    judges, missing = [], []
    for judge, make in panel(name).items():
        try:
            judges.append(make(device))
        except UserError as error:
            missing.append(f"{judge}: {error}")
    return judges, missing
