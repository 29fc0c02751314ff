"""Clips on the page: their choice, audio, spectrograms, tokens and transcripts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from focalcodec.errors import UserError
from focalcodec.report.pictures import (
    Picture,
    data_uri,
    mel_spectrogram,
    spectrogram,
    token_raster,
)
from focalcodec.report.run_folder import ClipEntry, CodecRun, Ints, SetRun
from focalcodec.report.tables import Heading


@dataclass(frozen=True)
class Word:
    """A word of a transcript: "same", "missing" in the output, or "other" in its place."""

    text: str
    kind: str


@dataclass(frozen=True)
class Transcript:
    """A judge's transcript, compared with the text of the clip if the text is known."""

    judge: str
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Version:
    """A recording of a clip, or a codec's output."""

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
    """A clip with its versions, the reference first; `index` is its position in the set."""

    index: int
    clip: ClipEntry
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class Choice:
    """Positions of the clips to listen to, and a sentence on how they were chosen."""

    indices: tuple[int, ...]
    description: str


def choose_clips(run: SetRun, columns: tuple[Heading, ...], most: int) -> Choice:
    """Choose at most `most` clips: evenly spaced from the best to the worst, both included.

    The clips are ranked by the first column with scores of the first codec. Small sets are shown
    completely, in their own order.
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
            text = (
                f"{most} of {count} clips, evenly spaced from the best to the worst"
                f" by {column.title} of {codec.name}, both included."
            )
            return Choice(tuple(ranked[place] for place in _spaced(len(ranked), most)), text)
    text = f"{most} of {count} clips, evenly spaced in the list of the set."
    return Choice(tuple(_spaced(count, most)), text)


def _spaced(count: int, most: int) -> list[int]:
    return [round(place) for place in np.linspace(0, count - 1, most)] if most else []


def listening(
    run: SetRun, index: int, columns: tuple[Heading, ...], done: Callable[[], object]
) -> Listening:
    """Return the audio, pictures and results of one clip; `done` is called after each version.

    Codecs without audio (deleted) are skipped. UserError if there is no reference, or a file is not
    FLAC.
    """
    clip = run.clips[index]
    if not clip.ref.is_file():
        raise UserError(f"{clip.ref}: missing; evaluate again")
    # One scale for all versions, so that their spectrograms can be compared.
    top = float(mel_spectrogram(clip.ref, clip.seconds).max())
    about = f"{clip.seconds:.1f} seconds, 0 to 8 kHz"
    versions = [
        _recording("Reference", f"Spectrogram of the reference, {about}", clip.ref, clip, top)
    ]
    if clip.input is not None:
        alt = f"Spectrogram of the codecs' input, {about}"
        versions.append(_recording("Input", alt, clip.input, clip, top))
    if clip.target is not None:
        alt = f"Spectrogram of another recording of the target speaker, {about}"
        versions.append(_recording("Target voice", alt, clip.target, clip, top))
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
                    picture=spectrogram(mel_spectrogram(path, clip.seconds), top, alt),
                    raster=_raster(codec, clip),
                    scores=_scores(codec, clip, columns),
                    transcripts=_transcripts(codec, clip),
                )
            )
        done()
    return Listening(index, clip, tuple(versions))


def _recording(name: str, alt: str, path: Path, clip: ClipEntry, top: float) -> Version:
    return Version(
        name, False, None, _flac(path), spectrogram(mel_spectrogram(path, clip.seconds), top, alt)
    )


def _flac(path: Path) -> str:
    # Bytes are copied unchanged: the page plays the same samples that the judges scored.
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
    """Return the bits of a token: from the card, or as many as these tokens need."""
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


def compare_words(text: str, transcript: str) -> tuple[Word, ...]:
    """Compare the words of a transcript with the text of the clip ("" if unknown), for display.

    Case and punctuation are ignored; unlike the judges' figures, nothing else is normalised.
    Missing words come before the other words in their place.

    Example
    -------
    >>> [(word.text, word.kind) for word in compare_words("A COLD HEART", "a gold heart.")]
    [('a', 'same'), ('COLD', 'missing'), ('gold', 'other'), ('heart.', 'same')]
    """
    expected, got = text.split(), transcript.split()
    if not expected:
        return tuple(Word(word, "same") for word in got)
    words: list[Word] = []
    matcher = difflib.SequenceMatcher(a=_plain(expected), b=_plain(got), autojunk=False)
    for action, a, a_end, b, b_end in matcher.get_opcodes():
        if action == "equal":
            words += [Word(word, "same") for word in got[b:b_end]]
        else:
            words += [Word(word, "missing") for word in expected[a:a_end]]
            words += [Word(word, "other") for word in got[b:b_end]]
    return tuple(words)


def _plain(words: list[str]) -> list[str]:
    return [re.sub(r"[^\w']", "", word).casefold() for word in words]
