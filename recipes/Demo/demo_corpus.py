r"""Make a corpus like the one that the demo codec was trained on; the YAML has the options.

python demo_corpus.py hparams/demo_corpus.yaml --output_folder /data/demo \
    --asterisk_folder /data/asterisk --kokoro_voices /data/package/voices \
    --sentences /usr/share/wordnet --jobs 8
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from demo_packages import (
    FIRST_READER,
    RUSSIAN,
    find_letters,
    find_russian,
    read_files,
    read_letters,
)
from demo_prompts import VOICES, find_prompts, read_prompt
from demo_readers import find_readers, read_reader, reader_names
from demo_synthetic import Kokoro, read_voices
from demo_texts import read_sentences
from demo_tree import Maker, write_clips, write_speakers

from focalcodec.errors import UserError
from focalcodec.training.run import script
from focalcodec.training.run.dead_keys import load_command

SEXES = {"f": "F", "m": "M"}  # keys: the second letter of a voice's name


def make_corpus(argv: Sequence[str]) -> None:
    """Write the clips that are missing; the same command resumes.

    Parameters
    ----------
    argv : sequence of str
        Command line: the YAML, then `--key value` for its knobs.

    Raises
    ------
    UserError
        A knob is wrong, or a package is missing.
    """
    _, hparams, _ = load_command(argv, sys.modules[__name__])
    root = Path(hparams["output_folder"]).expanduser()
    sources = (
        "asterisk_folder",
        "festvox_folder",
        "klettres_folder",
        "librispeech_folder",
        "kokoro_voices",
    )
    if not any(hparams[source] for source in sources):
        raise UserError(f"{', '.join(sources)}: all are null; give one of them")
    how = {
        "suffix": hparams["suffix"],
        "jobs": hparams["jobs"],
        "max_broken_share": hparams["max_broken_share"],
    }
    if hparams["asterisk_folder"]:
        write_real(root, hparams["asterisk_folder"], hparams["min_seconds"], how)
    if hparams["festvox_folder"]:
        write_clips(
            root, clips=find_russian(hparams["festvox_folder"]), new_maker=_files_reader, **how
        )
        write_speakers(root, {RUSSIAN: ("M", "festvox-ru, BSD-like licence")})
    if hparams["klettres_folder"]:
        write_letters(root, hparams["klettres_folder"], hparams["letters_seconds"], how)
    if hparams["librispeech_folder"]:
        write_readers(root, hparams["librispeech_folder"], how)
    if hparams["kokoro_voices"]:
        write_synthetic(root, hparams, how)
    print(f"{root}: ready; train with --data_folder {root}", flush=True)


def write_real(root: Path, folder: str, min_seconds: float, how: Mapping[str, Any]) -> None:
    """Write the real speakers' splits.

    Parameters
    ----------
    root : Path
        Root of the corpus.
    folder : str
        See `find_prompts`.
    min_seconds : float
        Shorter prompts are left out.
    how : mapping
        Further arguments of `write_clips`.
    """
    clips = find_prompts(folder, min_seconds)
    write_clips(root, clips=clips, new_maker=_prompt_reader, **how)
    there = {clip.speaker for clip in clips}
    names = {v.speaker: (v.sex, v.name) for v in VOICES if v.speaker in there}
    write_speakers(root, names)


def _prompt_reader() -> Maker:
    return read_prompt


def write_letters(root: Path, folder: str, most_seconds: float, how: Mapping[str, Any]) -> None:
    """Write the split of the readers of letters; see `find_letters` and `write_real`."""
    readers = read_letters(folder)
    write_clips(root, clips=find_letters(readers, most_seconds), new_maker=_files_reader, **how)
    names = {
        str(FIRST_READER + number): ("X", f"klettres-data, {reader.language}, GPL-2+")
        for number, reader in enumerate(readers)
    }
    write_speakers(root, names)


def _files_reader() -> Maker:
    return read_files


def write_readers(root: Path, folder: str, how: Mapping[str, Any]) -> None:
    """Write the splits of LibriSpeech's readers; the arguments are those of `write_real`."""
    clips = find_readers(folder)
    write_clips(root, clips=clips, new_maker=_clip_reader, **how)
    names = reader_names(folder)
    write_speakers(root, {clip.speaker: names.get(clip.speaker, ("X", "")) for clip in clips})


def _clip_reader() -> Maker:
    return read_reader


def write_synthetic(
    root: Path,
    hparams: Mapping[str, Any],
    how: Mapping[str, Any],
    synthesiser: Callable[[Mapping[str, Any]], Maker] = Kokoro,
) -> None:
    """Write the synthetic speakers' splits.

    Parameters
    ----------
    root : Path
        Root of the corpus.
    hparams : mapping
        `kokoro_voices`, `sentences` and `cast`.
    how : mapping
        Further arguments of `write_clips`.
    synthesiser : callable
        Voices -> maker of clips.
    """
    if not hparams["sentences"]:
        raise UserError("sentences: null; name WordNet's folder or a file with a sentence a line")
    voices, cast = read_voices(hparams["kokoro_voices"]), hparams["cast"]
    clips = cast.clips(list(voices), read_sentences(hparams["sentences"]))
    write_clips(root, clips=clips, new_maker=partial(synthesiser, voices), **how)
    names = {}
    for speaker, blend in cast.speakers(list(voices)).items():
        sexes = {SEXES.get(name[1:2], "X") for name, _ in blend}
        label = " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in blend)
        names[speaker] = (
            sexes.pop() if len(sexes) == 1 else "X",
            f"synthetic, Kokoro {label}",
        )
    write_speakers(root, names)


if __name__ == "__main__":
    script(make_corpus)
