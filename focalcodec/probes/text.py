"""Texts as symbols: pieces of words that SentencePiece learns from the training texts."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import sentencepiece

from focalcodec.errors import UserError

BLANK = 0
MODELS = ("bpe", "unigram", "char")


class Pieces:
    """Texts to symbols and back; symbol 0 is CTC's blank, and piece p is symbol p + 1.

    Source: Kudo and Richardson, "SentencePiece", arXiv 1808.06226.

    Parameters
    ----------
    model : bytes
        From `learn_pieces`.

    Example
    -------
    >>> pieces = Pieces(learn_pieces(["ONE TWO", "TWO ONE TWO"], vocab_size=12))
    >>> len(pieces), pieces.to_text(pieces.to_symbols("TWO ONE"))
    (13, 'TWO ONE')
    """

    def __init__(self, model: bytes) -> None:
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    def __len__(self) -> int:
        """Symbols, the blank included."""
        return self._processor.vocab_size() + 1

    def to_symbols(self, text: str) -> list[int]:
        """Symbols of a text."""
        return [piece + 1 for piece in self._processor.encode(text)]

    def to_text(self, symbols: Sequence[int]) -> str:
        """Text of symbols, without blanks."""
        return self._processor.decode([symbol - 1 for symbol in symbols])

    @property
    def names(self) -> list[str]:
        """Each symbol as people write it."""
        pieces = self._processor
        return ["<blank>", *(pieces.id_to_piece(p) for p in range(pieces.vocab_size()))]


_TRAINING: dict[str, Any] = {
    **{"unk_id": 0, "bos_id": -1, "eos_id": -1, "pad_id": -1},
    "max_sentence_length": 1 << 20,
    # Several threads join their counts in the order in which they end.
    "num_threads": 1,
    "minloglevel": 2,
}


def learn_pieces(
    texts: Iterable[str],
    vocab_size: int = 1000,
    model_type: str = "bpe",
    character_coverage: float = 1.0,
) -> bytes:
    """Learn the pieces of texts; the same texts give the same bytes.

    Parameters
    ----------
    texts : iterable of str
        Of the training set.
    vocab_size : int
        Pieces, the unknown one included; the most of them, unless these are byte pairs.
    model_type : {"bpe", "unigram", "char"}
        Byte-pair encoding, unigram model, or characters.
    character_coverage : float
        Share of the characters, by how often they come, that have pieces.

    Returns
    -------
    bytes
        SentencePiece's model.

    Raises
    ------
    UserError
        A model type that is none, no texts, or too few of them for so many pieces.

    Example
    -------
    >>> learn_pieces(["ONE"], vocab_size=1000)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: vocab_size=1000: ...
    """
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UserError("no clip of the training set has a text (column wrd); a probe learns them")
    if model_type not in MODELS:
        raise UserError(f"text_model={model_type!r}: not one of {', '.join(MODELS)}")
    made = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=made,
            vocab_size=vocab_size,
            model_type=model_type,
            character_coverage=character_coverage,
            # Of characters, or words and their parts, there may be no more.
            hard_vocab_limit=model_type == "bpe",
            **_TRAINING,
        )
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"vocab_size={vocab_size}: not to be had of {len(texts)} training texts ({reason});"
            " give another number"
        ) from error
    return made.getvalue()
