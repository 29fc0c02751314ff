"""The clips that a page lets one hear: which ones, their sound, pictures and transcripts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from focalcodec.errors import UserError
from focalcodec.report.images import Picture, data_uri, log_mel, spectrogram, token_raster
from focalcodec.report.run_folder import ClipEntry, CodecRun, Ints, SetRun
from focalcodec.report.tables import Heading


@dataclass(frozen=True)
class Word:
    """A word of a transcript: "same", "missing" in the output, or "other" in its place."""

    text: str
    kind: str


@dataclass(frozen=True)
class Transcript:
    """A judge's transcript, compared with the true text where that is known."""

    judge: str
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Version:
    """A clip as it was recorded or as a codec gave it back."""

    name: str
    ours: bool
    kbps: float | None
    src: str
    picture: Picture
    raster: Picture | None = None
    scores: tuple[tuple[Heading, str], ...] = ()
    transcripts: tuple[Transcript, ...] = ()


@dataclass(frozen=True)
class Listening:
    """A clip with its versions, the reference first; `index` is its place in the set."""

    index: int
    clip: ClipEntry
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class Choice:
    """Clips to hear, by their place in the set, and in words how they were chosen."""

    indices: tuple[int, ...]
    told: str


def choose_clips(run: SetRun, columns: tuple[Heading, ...], most: int) -> Choice:
    """Choose clips without a hand in it: evenly from the best to the worst.

    Parameters
    ----------
    run : SetRun
        A set.
    columns : tuple of Heading
        Its columns; the first that orders the first codec's clips is the one to go by.
    most : int
        Clips at most.

    Returns
    -------
    Choice
        Best first, both ends included; all clips, in the set's order, where they are few.
    """
    count = len(run.clips)
    if count <= most:
        return Choice(tuple(range(count)), f"All {count} clips." if count > 1 else "The only clip.")
    codec = run.codecs[0]
    for column in columns:
        scores = codec.scores.get(column.key, {})
        ranked = [index for index, clip in enumerate(run.clips) if clip.id in scores]
        if column.arrow and len(ranked) >= most and len(set(scores.values())) > 1:
            worst = max if column.arrow == "↓" else min
            ranked.sort(key=lambda index: scores[run.clips[index].id], reverse=worst is min)
            told = (
                f"{most} of {count} clips, evenly spaced from the best to the worst"
                f" by {column.title} of {codec.name}; both ends are here."
            )
            return Choice(tuple(ranked[place] for place in _spaced(len(ranked), most)), told)
    told = f"{most} of {count} clips, evenly spaced through the set's list."
    return Choice(tuple(_spaced(count, most)), told)


def _spaced(count: int, most: int) -> list[int]:
    return [round(place) for place in np.linspace(0, count - 1, most)] if most else []


def listen(
    run: SetRun, index: int, columns: tuple[Heading, ...], done: Callable[[], object]
) -> Listening:
    """Sound and pictures of one clip.

    Parameters
    ----------
    run : SetRun
        A set.
    index : int
        Place of the clip.
    columns : tuple of Heading
        The set's.
    done : callable
        Called after each version.

    Returns
    -------
    Listening
        Codecs whose audio was not kept are left out.

    Raises
    ------
    UserError
        The reference is not there, or a file is not FLAC.
    """
    clip = run.clips[index]
    if not clip.ref.is_file():
        raise UserError(f"{clip.ref}: not there; evaluate again")
    top = float(log_mel(clip.ref, clip.seconds).max())
    about = f"{clip.seconds:.1f} seconds, 0 to 8 kHz"
    versions = [
        _recording("Reference", f"Spectrogram of the reference, {about}", clip.ref, clip, top)
    ]
    if clip.input is not None:
        alt = f"Spectrogram of what the codecs were given, {about}"
        versions.append(_recording("Input", alt, clip.input, clip, top))
    if clip.target is not None:
        alt = f"Spectrogram of another recording of the wanted speaker, {about}"
        versions.append(_recording("Wanted voice", alt, clip.target, clip, top))
    done()
    for codec in run.codecs:
        path = codec.audio(clip)
        if path.is_file():
            alt = f"Spectrogram of {codec.name}, to compare with that of the reference"
            versions.append(
                Version(
                    name=codec.name,
                    ours=codec.has_toks,
                    kbps=codec.kbps,
                    src=_flac(path),
                    picture=spectrogram(log_mel(path, clip.seconds), top, alt),
                    raster=_raster(codec, clip),
                    scores=_scores(codec, clip, columns),
                    transcripts=_transcripts(codec, clip),
                )
            )
        done()
    return Listening(index, clip, tuple(versions))


def _recording(name: str, alt: str, path: Path, clip: ClipEntry, top: float) -> Version:
    return Version(
        name, False, None, _flac(path), spectrogram(log_mel(path, clip.seconds), top, alt)
    )


def _flac(path: Path) -> str:
    content = path.read_bytes()
    if content[:4] != b"fLaC":
        raise UserError(f"{path}: not a FLAC file; evaluate again")
    return data_uri(content, "audio/flac")


def _raster(codec: CodecRun, clip: ClipEntry) -> Picture | None:
    if not codec.has_toks:
        return None
    toks = codec.toks(clip)
    if toks is None or not toks.size:
        return None
    bits = token_bits(codec, toks)
    alt = f"Tokens of {codec.name}: {toks.size} tokens from left to right, {bits} bits each"
    return token_raster(toks, bits, alt)


def token_bits(codec: CodecRun, toks: Ints) -> int:
    """Bits of a codec's token: as its card has it, or as many as these need."""
    return max(int(codec.codec.get("bits") or 0), int(toks.max()).bit_length(), 1)


def _scores(
    codec: CodecRun, clip: ClipEntry, columns: tuple[Heading, ...]
) -> tuple[tuple[Heading, str], ...]:
    found = []
    for column in columns:
        score = codec.scores.get(column.key, {}).get(clip.id)
        if score is not None:
            found.append((column, f"{score:.{column.decimals}f}"))
    return tuple(found)


def _transcripts(codec: CodecRun, clip: ClipEntry) -> tuple[Transcript, ...]:
    found = codec.transcripts.get(clip.id, {})
    return tuple(Transcript(judge, compare_words(clip.text, text)) for judge, text in found.items())


def compare_words(text: str, heard: str) -> tuple[Word, ...]:
    """Words of a transcript against those of the true text, for the eye.

    Case and punctuation do not count. The judges' figures have their own normaliser; this has not.

    Parameters
    ----------
    text : str
        What is said; "" where it is not known.
    heard : str
        What was heard.

    Returns
    -------
    tuple of Word
        In order, what is missing before what was heard instead.

    Example
    -------
    >>> [(word.text, word.kind) for word in compare_words("A COLD HEART", "a gold heart.")]
    [('a', 'same'), ('COLD', 'missing'), ('gold', 'other'), ('heart.', 'same')]
    """
    said, got = text.split(), heard.split()
    if not said:
        return tuple(Word(word, "same") for word in got)
    words: list[Word] = []
    matcher = difflib.SequenceMatcher(a=_plain(said), b=_plain(got), autojunk=False)
    for action, a, a_end, b, b_end in matcher.get_opcodes():
        if action == "equal":
            words += [Word(word, "same") for word in got[b:b_end]]
        else:
            words += [Word(word, "missing") for word in said[a:a_end]]
            words += [Word(word, "other") for word in got[b:b_end]]
    return tuple(words)


def _plain(words: list[str]) -> list[str]:
    return [re.sub(r"[^\w']", "", word).casefold() for word in words]
