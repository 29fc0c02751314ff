"""Real speakers: the telephone prompts of Debian's packages asterisk-core-sounds-*."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from demo_texts import embedded_words, transcripts_by_name, words_of
from demo_tree import DemoClip
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.packages import need

INSTALL = 'pip install -e ".[demo-corpus]"'
SAMPLE_RATE = 16000
_BYTES_PER_SECOND = 8000  # bytes a second of G.722 at 64 kbit/s
_MOST_SECONDS = 30.0
_QUIETEST_DB = -50.0


class Voice(NamedTuple):
    """Speaker of a language, and the place of the clips."""

    language: str
    folder: str
    speaker: str
    chapter: str
    split: str
    sex: str
    name: str


VOICES = (
    Voice("en", "en_US_f_Allison", "101", "1", "train-real", "F", "Allison Smith, CC BY-SA 3.0"),
    Voice("es", "es_MX_f_Allison", "101", "2", "train-real", "F", "Allison Smith, CC BY-SA 3.0"),
    Voice("fr", "fr_CA_f_June", "102", "3", "train-real", "F", "June Wallack, CC BY-SA 3.0"),
    Voice("it", "it_IT_m_Carlo", "103", "4", "test-italian", "M", "Carlo Flora, CC BY-SA 3.0"),
    Voice("ru", "ru_RU_f_IvrvoiceRU", "104", "5", "train-real", "F", "ivrvoice.ru, CC BY 3.0"),
)
"""Speaker 103, the only man, is for testing only."""


def find_prompts(
    folder: str | Path, min_seconds: float = 1.5, skip_embedded: bool = True
) -> list[DemoClip]:
    """Prompts with speech, of the packages that are found.

    Parameters
    ----------
    folder : str or path
        Folder with `usr/share`, in which the packages were unpacked; `/` if they are installed.
    min_seconds : float
        Shorter prompts are left out.
    skip_embedded : bool
        Leave out texts of the embedded corpus, which has some of these recordings.

    Returns
    -------
    list of DemoClip
        The field `source` is the path of the prompt's file.

    Raises
    ------
    UserError
        No package is found, or one without its texts.
    """
    share = Path(folder).expanduser() / "usr" / "share"
    known = embedded_words() if skip_embedded else ()
    clips: list[DemoClip] = []
    for voice in VOICES:
        sounds = share / "asterisk" / "sounds" / voice.folder
        if not any(sounds.glob("*.g722")):
            continue
        number = 0
        for name, text in sorted(_texts(share, voice.language).items()):
            file = sounds / f"{name}.g722"
            if not _is_speech(file, text, min_seconds) or words_of(text) in known:
                continue
            place = (voice.split, voice.speaker, voice.chapter, number)
            clips.append(DemoClip(*place, text, file))
            number += 1
    if not clips:
        raise UserError(
            f"asterisk_folder {folder}: no usr/share/asterisk/sounds/*/*.g722; unpack Debian's"
            " asterisk-core-sounds-en-g722 there: dpkg-deb -x FILE.deb FOLDER"
        )
    return clips


def _texts(share: Path, language: str) -> dict[str, str]:
    name = f"asterisk-core-sounds-{language}"
    for suffix, opened in ((".txt.gz", gzip.open), (".txt", open)):
        path = share / "doc" / name / f"core-sounds-{language}{suffix}"
        if path.is_file():
            with opened(path, "rt", encoding="utf-8-sig") as file:
                return dict(transcripts_by_name(file.read()))
    raise UserError(
        f"{share / 'doc' / name}: no core-sounds-{language}.txt.gz; unpack the package {name} too"
        " (a system that leaves out documentation does not install it)"
    )


def _is_speech(file: Path, text: str, min_seconds: float) -> bool:
    # Tones and silences have no text; letters and digits are too short for training.
    if not any(letter.isalpha() for letter in text) or not file.is_file():
        return False
    return min_seconds <= file.stat().st_size / _BYTES_PER_SECOND <= _MOST_SECONDS


def read_prompt(clip: DemoClip) -> tuple[Tensor, int]:
    """Signal (T,) of a prompt, decoded by PyAV, and its rate, Hz.

    Raises
    ------
    UserError
        The prompt can't be decoded, or is almost silent.
    """
    av = need("av", INSTALL)
    try:
        with av.open(str(clip.source), format="g722") as container:
            frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"{clip.source}: can't be decoded ({error}); unpack it again") from error
    if not frames:
        raise UserError(f"{clip.source}: no audio in it; unpack the package again")
    sig = np.concatenate(frames).astype(np.float32) / 32768
    level = 10 * np.log10(np.mean(sig**2) + 1e-12)
    if level < _QUIETEST_DB:
        raise UserError(f"{clip.source}: {level:.0f} dB, no speech in it")
    return torch.from_numpy(sig), SAMPLE_RATE
