"""Sentences for a synthesiser: WordNet's examples, or the lines of a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from focalcodec.data.corpus import embedded_corpus, walk_files
from focalcodec.data.librispeech_tree import find_clips
from focalcodec.errors import UserError
from focalcodec.files import read_text, split_lines

WORDNET_FILES = ("data.adj", "data.adv", "data.noun", "data.verb")
FEWEST_WORDS, MOST_WORDS = 4, 30
# Characters that can be read in one way only: no digits, brackets, dashes, foreign letters.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z',]*(?: [A-Za-z',]+)*[.?!]?")


def read_sentences(path: str | Path) -> list[str]:
    """Sentences that can be read aloud: sorted, each once, without those of the embedded corpus.

    Parameters
    ----------
    path : str or path
        Folder of WordNet with `data.noun` and the other files, which contain examples, or a file
        with one sentence a line.

    Returns
    -------
    list of str
        Sentences that begin with a capital and end with a full stop.

    Raises
    ------
    UserError
        There is no such file, or no sentence in it can be read aloud.
    """
    source = Path(path).expanduser()
    if not source.exists():
        raise UserError(
            f"sentences {source}: no such file; name WordNet's folder (Debian: wordnet-base, in"
            " /usr/share/wordnet) or a file with a sentence a line"
        )
    files = [source / name for name in WORDNET_FILES] if source.is_dir() else [source]
    lines = [line for file in files for line in split_lines(read_text(file))]
    found = wordnet_examples(lines) if source.is_dir() else lines
    known = embedded_words()
    sentences = {tidy(text) for text in found} - {""}
    sentences = {text for text in sentences if words_of(text) not in known}
    if not sentences:
        raise UserError(f"sentences {source}: none of {FEWEST_WORDS} to {MOST_WORDS} plain words")
    return sorted(sentences)


def wordnet_examples(lines: Iterable[str]) -> list[str]:
    """Texts in quotation marks of WordNet's glosses; its format is in the manual page wndb(5).

    Example
    -------
    >>> wordnet_examples(['00003483 02 r 01 basically 0 | in essence; "He is basically honest"'])
    ['He is basically honest']
    """
    glosses = (line.partition(" | ")[2] for line in lines)
    return [text for gloss in glosses for text in re.findall(r'"([^"]+)"', gloss)]


def tidy(text: str) -> str:
    """Return the text as a sentence to read aloud, or "" if it is not a sentence.

    Example
    -------
    >>> tidy(" the oceans are  teeming with life "), tidy("in 1914 war broke out"), tidy("yes")
    ('The oceans are teeming with life.', '', '')
    """
    text = " ".join(text.split())
    if not _PLAIN.fullmatch(text) or not FEWEST_WORDS <= len(text.split()) <= MOST_WORDS:
        return ""
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".?!" else text.rstrip(",") + "."


def words_of(text: str) -> str:
    """Words in lower case, without punctuation: equal for two spellings of a text."""
    return " ".join(re.findall(r"\w+", text.lower()))


class _Known:
    """`words in known` is True if these words occur in some texts, one after the other."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._all = "\n".join(f" {words_of(text)} " for text in texts)

    def __contains__(self, words: object) -> bool:
        return f" {words} " in self._all


def embedded_words() -> _Known:
    """Texts of the embedded corpus; it tests models that are trained on the demo corpus."""
    texts: list[str] = []
    root = embedded_corpus("LibriSpeech")
    texts += [clip.wrd for clip in find_clips(root, walk_files(root, ""))]
    for table in sorted(embedded_corpus("VoxPopuli").rglob("asr_*.tsv")):
        rows = [line.split("\t") for line in split_lines(read_text(table))]
        column = rows[0].index("normalized_text")
        texts += [row[column] for row in rows[1:]]
    return _Known(texts)


def transcripts_by_name(text: str) -> Mapping[str, str]:
    r"""Transcripts of Asterisk's prompts, from `name: transcript` lines, without notes in brackets.

    Example
    -------
    >>> dict(transcripts_by_name("; a comment\nletters/at: at [@]\nbeep: [a tone]"))
    {'letters/at': 'at', 'beep': ''}
    """
    texts = {}
    for line in split_lines(text):
        name, colon, words = line.partition(":")
        if colon and not line.startswith(";"):
            words = re.sub(r"\[[^]]*\]|\([^)]*\)|[“”«»\"]", " ", words)
            texts[name.strip()] = " ".join(words.split())
    return texts
