"""Judges of resynthesised speech, one a file, and panels: lists of judges.

There are the judges of the papers, and judges that need no model hub.
"""

from __future__ import annotations

from collections.abc import Callable

from focalcodec.errors import UserError
from focalcodec.metrics.frame_by_frame import PesqJudge, SpectralJudge, StoiJudge
from focalcodec.metrics.judge import Judge
from focalcodec.metrics.mos import DistillMosJudge, DnsmosJudge, UtmosJudge
from focalcodec.metrics.similarity import ResemblyzerJudge, WavlmSvJudge
from focalcodec.metrics.whisper import WhisperJudge, WhisperSmallJudge

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
    # Whisper base must not judge a codec with an encoder that was distilled from Whisper base.
    "offline_tiny": {name: make for name, make in _OFFLINE.items() if name != "Whisper base"},
}


def panel(name: str) -> dict[str, JudgeFactory]:
    """Return the judges of a panel: name -> function that makes the judge for a device.

    Raises `UserError` for a name other than "offline", "offline_tiny" and "paper".

    Example
    -------
    >>> list(panel("paper"))[:3]
    ['UTMOS', 'Whisper small', 'WavLM-base-sv']
    """
    if name not in PANELS:
        raise UserError(f"panel: {name!r}; give one of {', '.join(sorted(PANELS))}")
    return dict(PANELS[name])


def load_panel(name: str, device: str = "cpu") -> tuple[list[Judge], list[str]]:
    """Make the judges of a panel that are installed, for a device such as "cpu" or "cuda".

    Weights are found and checked here, and loaded at a judge's first score. The second result has
    one line for each judge that is missing, with the command that installs it. Raises `UserError`
    for an unknown panel.
    """
    judges, missing = [], []
    for judge, make in panel(name).items():
        try:
            judges.append(make(device))
        except UserError as error:
            missing.append(f"{judge}: {error}")
    return judges, missing
