"""Targets of probes: symbols of a text, with CTC's loss and decoding, or the class of a label."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import sentencepiece
import torch
import torch.nn.functional as F
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.probes.inputs import valid_lengths

Rows = Sequence[Mapping[str, Any]]

BLANK = 0
MODELS = ("bpe", "unigram", "char")
_TRAINING: dict[str, Any] = {
    **{"unk_id": 0, "bos_id": -1, "eos_id": -1, "pad_id": -1},
    "max_sentence_length": 1 << 20,
    # With several threads, counts are added in the order in which the threads end.
    "num_threads": 1,
    "minloglevel": 2,
}


class Pieces:
    """Pieces of words (SentencePiece, arXiv 1808.06226): text to symbols and back.

    Symbol 0 is CTC's blank, symbol p + 1 is piece p. `model` comes from `learn_pieces`.

    Example
    -------
    >>> pieces = Pieces(learn_pieces(["ONE TWO", "TWO ONE TWO"], vocab_size=12))
    >>> len(pieces), pieces.to_text(pieces.to_symbols("TWO ONE"))
    (13, 'TWO ONE')
    """

    def __init__(self, model: bytes) -> None:
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    def __len__(self) -> int:
        """Return the number of symbols, the blank included."""
        return self._processor.vocab_size() + 1

    def to_symbols(self, text: str) -> list[int]:
        """Return the symbols of a text."""
        return [piece + 1 for piece in self._processor.encode(text)]

    def to_text(self, symbols: Sequence[int]) -> str:
        """Return the text of symbols, which must not contain blanks."""
        return self._processor.decode([symbol - 1 for symbol in symbols])

    @property
    def names(self) -> list[str]:
        """Each symbol as text, such as "▁ONE"; the blank comes first."""
        pieces = self._processor
        return ["<blank>", *(pieces.id_to_piece(p) for p in range(pieces.vocab_size()))]


def learn_pieces(
    texts: Iterable[str],
    vocab_size: int = 1000,
    model_type: str = "bpe",
    character_coverage: float = 1.0,
) -> bytes:
    """Learn the pieces of the training texts; the same texts give the same bytes.

    Parameters
    ----------
    texts : iterable of str
        Texts of the training set.
    vocab_size : int
        Number of pieces, the unknown one included; for "unigram" and "char" the largest number.
    model_type : {"bpe", "unigram", "char"}
        Byte-pair encoding, unigram model, or characters.
    character_coverage : float
        Share of all characters in the texts that the pieces must cover.

    Raises
    ------
    UserError
        Unknown model type, no texts, or too few of them for this number of pieces.
    """
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UserError("no clip of the training set has a text (column wrd); a probe needs texts")
    if model_type not in MODELS:
        raise UserError(f"text_model={model_type!r}: not one of {', '.join(MODELS)}")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=vocab_size,
            model_type=model_type,
            character_coverage=character_coverage,
            # The texts may contain fewer different characters or words than this.
            hard_vocab_limit=model_type == "bpe",
            **_TRAINING,
        )
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"vocab_size={vocab_size}: {len(texts)} training texts can't give so many pieces"
            f" ({reason}); give another number"
        ) from error
    return model.getvalue()


def decode_greedily(
    log_probs: Tensor, lengths: Tensor | None = None, blank: int = BLANK
) -> list[list[int]]:
    """Decode CTC: take the best symbol of each frame, drop repetitions, then drop blanks.

    `log_probs` is (B, N, V), `lengths` (B,) int64 has the valid frames (None means all). Source:
    Graves et al., "Connectionist temporal classification" (2006), section 3.2.

    Example
    -------
    >>> frames = torch.tensor([[1, 1, 0, 1, 2, 2, 0]])
    >>> decode_greedily(torch.nn.functional.one_hot(frames).log())
    [[1, 1, 2]]
    """
    lengths = valid_lengths(log_probs, lengths)
    best = log_probs.argmax(dim=2).cpu()  # (B, N)
    runs = [torch.unique_consecutive(x[:n]) for x, n in zip(best, lengths.tolist(), strict=True)]
    return [run[run != blank].tolist() for run in runs]


class Labels:
    """Classes of an utterance probe: the values of a manifest column, numbered in sorted order."""

    def __init__(self, column: str, names: Sequence[str], common: str = "") -> None:
        self.column, self.names, self._common = column, list(names), common
        self._numbers = {name: number for number, name in enumerate(self.names)}

    @classmethod
    def of(cls, rows: Rows, column: str) -> Labels:
        """Return the labels of a training set; UserError if a clip has none, or all the same."""
        counts = Counter(_value(row, column) for row in rows)
        names = sorted(counts)
        if len(names) < 2:
            raise UserError(f"label={column}: all training clips have {names[0]!r}; two are needed")
        return cls(column, names, max(names, key=counts.__getitem__))

    def __len__(self) -> int:
        """Return the number of classes."""
        return len(self.names)

    def to_json(self) -> bytes:
        """Return column and names, JSON."""
        about = {"column": self.column, "names": self.names}
        return json.dumps(about, indent=1).encode() + b"\n"

    def number(self, row: Mapping[str, Any]) -> int:
        """Return the class of a clip; UserError if the training set does not have its label."""
        value = _value(row, self.column)
        if value not in self._numbers:
            raise UserError(
                f"clip {row['ID']!r}: {self.column}={value!r} is not a label of the training set;"
                " remove the clip from the set, or train on it"
            )
        return self._numbers[value]

    def chance(self, rows: Rows) -> float:
        """Error rate in % of a guess: a random label, or the one that most training clips have.

        Of these two it is the lower rate on the rows.

        Example
        -------
        >>> labels = Labels.of([{"mood": "sad"}, {"mood": "sad"}, {"mood": "angry"}], "mood")
        >>> labels.chance([{"mood": "sad"}, {"mood": "angry"}, {"mood": "sad"}, {"mood": "sad"}])
        25.0
        """
        wrong = sum(_value(row, self.column) != self._common for row in rows)
        return min(100.0 - 100.0 / len(self), 100.0 * wrong / len(rows))

    def confusion(self, rows: Rows, predicted: Sequence[str]) -> npt.NDArray[np.int64]:
        """Count the clips of each label by what was predicted: (labels, predictions), (K, K).

        Example
        -------
        >>> labels = Labels("mood", ["angry", "sad"])
        >>> labels.confusion([{"mood": "sad"}, {"mood": "sad"}], ["sad", "angry"])
        array([[0, 0],
               [1, 1]])
        """
        counts = np.zeros((len(self), len(self)), dtype=np.int64)
        for row, name in zip(rows, predicted, strict=True):
            counts[self.number(row), self._numbers[name]] += 1
        return counts

    def check(self, name: str, rows: Rows) -> None:
        """Raise UserError if a set has labels that the training set does not have."""
        unknown = [row for row in rows if _value(row, self.column) not in self._numbers]
        if unknown:
            raise UserError(
                f"{name}: {len(unknown)} of {len(rows)} clips have a label that the training set"
                f" does not have, such as {self.column}={_value(unknown[0], self.column)!r} of clip"
                f" {unknown[0]['ID']!r}; leave them out of the set, or train on such clips"
            )


def unweighted_recall(confusion: npt.NDArray[np.int64]) -> float:
    """Mean over the labels of the share of their clips that were recognised, in %.

    A label without clips does not count; a guess has 100 % / number of labels.

    Example
    -------
    >>> unweighted_recall(np.array([[8, 2], [1, 1]]))
    65.0
    """
    clips = confusion.sum(axis=1)
    recalls = 100.0 * confusion.diagonal()[clips > 0] / clips[clips > 0]
    return float(recalls.mean())


def _value(row: Mapping[str, Any], column: str) -> str:
    value = str(row.get(column) or "")
    if not value:
        raise UserError(
            f"label={column}: clip {row['ID']!r} has none; its manifest has {', '.join(row)}"
        )
    return value


# -- CTC -------------------------------------------------------------------------------------------


def ctc_losses(
    log_probs: Tensor, frames: Tensor, symbols: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """CTC loss of each clip, divided by the number of its symbols.

    A text that needs more frames than its clip has can't be aligned: its loss is 0, without a
    gradient.

    Source: Graves et al., "Connectionist temporal classification" (2006).

    Parameters
    ----------
    log_probs : Tensor
        (B, N, V), blank first.
    frames : Tensor
        (B,) int64.
    symbols : sequence of sequence of int
        Symbols of each clip's text.

    Returns
    -------
    losses : Tensor
        (B,) nats a symbol.
    fits : Tensor
        (B,), 1 where the text can be aligned, else 0: the weights of a mean.

    Example
    -------
    >>> log_probs = torch.zeros(1, 2, 4).log_softmax(dim=2)
    >>> ctc_losses(log_probs, torch.tensor([2]), [[3]])  # three of the 16 paths give [3]
    (tensor([1.6740]), tensor([1.]))
    """
    device = log_probs.device
    counts = torch.tensor([len(text) for text in symbols], device=device)
    flat = torch.tensor([s for text in symbols for s in text], dtype=torch.int64, device=device)
    losses = F.ctc_loss(
        log_probs.float().transpose(0, 1),
        flat,
        frames,
        counts,
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
    room = zip(symbols, frames.tolist(), strict=True)
    fits = torch.tensor([frames_needed(text) <= count for text, count in room])
    return losses / counts.clamp(min=1), fits.to(losses)


def frames_needed(symbols: Sequence[int]) -> int:
    """Frames that CTC needs for a text: one for each symbol, and a blank between two equal ones.

    Example
    -------
    >>> frames_needed([3, 3, 5])
    4
    """
    return len(symbols) + sum(a == b for a, b in pairwise(symbols))


def decode_with_beam(
    log_probs: Tensor, frames: Tensor, names: Sequence[str], beam_size: int
) -> list[str]:
    """Most probable text of each clip, without a language model.

    Source: Graves et al., "Connectionist temporal classification" (2006), section 3.2, prefix
    search.

    Parameters
    ----------
    log_probs : Tensor
        (B, N, V), blank first.
    frames : Tensor
        (B,) int64.
    names : sequence of str
        `Pieces.names`.
    beam_size : int
        Texts that are kept at a frame.

    Returns
    -------
    list of str
        Text of each clip.

    Example
    -------
    >>> import torch
    >>> frames = torch.tensor([[1, 1, 0, 2]])
    >>> log_probs = (9.0 * torch.nn.functional.one_hot(frames, 3)).log_softmax(dim=2)
    >>> decode_with_beam(log_probs, torch.tensor([4]), ["<blank>", "▁ONE", "▁TWO"], 4)
    ['ONE TWO']
    """
    from speechbrain.decoders import CTCPrefixBeamSearcher

    searcher = CTCPrefixBeamSearcher(
        blank_index=BLANK, vocab_list=list(names), beam_size=beam_size, topk=1
    )
    texts = []
    # One clip after the other, because the searcher cuts a batch by rounded shares of the longest.
    for clip, count in zip(log_probs.float().cpu(), frames.tolist(), strict=True):
        ((best, *_),) = searcher(clip[None, :count])
        texts.append(best.text.strip())
    return texts
