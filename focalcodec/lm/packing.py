"""Training data: whole utterances, packed into rows of a fixed length.

Rows of one length need no padding in the middle of a batch, and utterances of one speaker in a row
teach the model to continue in the voice that it has in front of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.lm.vocabulary import Vocabulary
from focalcodec.tokenize.store import TokenStore

_OPEN_ROWS = 32  # of a speaker, in which the next utterance may find a place


def text_sizes(vocabulary: Vocabulary, texts: Mapping[str, str]) -> list[int]:
    """Number of ids of each clip's text; `UserError`, with the clip, for one without ids."""
    sizes = []
    for name, text in texts.items():
        try:
            sizes.append(len(vocabulary.text_ids(text)))
        except UserError as error:
            raise UserError(f"clip {name!r}: {error}") from error
    return sizes


@dataclass(frozen=True)
class PackedBatch:
    """Rows of packed utterances. Move it with `.to(device)`."""

    id: list[str]
    group: list[str]
    ids: Tensor
    """(B, T) int64."""
    is_target: Tensor
    """(B, T) bool: the model is trained to predict these; False in the padding."""
    lengths: Tensor
    """(B,) int64, ids of each row without the padding."""

    def to(self, device: torch.device | str) -> PackedBatch:
        """Return the batch with its tensors on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("ids", "is_target", "lengths")}
        return replace(self, **moved)


def pack(sizes: Sequence[int], groups: Sequence[Any], length: int, seed: int) -> list[list[int]]:
    """Divide items into rows of at most `length`, each of one group; a longer item is a row.

    Items are drawn in random order; each goes into the first of the newest rows with room for it.

    Example
    -------
    >>> sorted(map(sorted, pack([4, 3, 9, 5], ["a", "a", "a", "b"], 7, seed=0)))
    [[0, 1], [2], [3]]
    """
    order = np.random.default_rng(stable_seed(seed, "packing")).permutation(len(sizes)).tolist()
    rows: list[list[int]] = []
    open_rows: dict[Any, list[tuple[int, list[int]]]] = {}  # of each group: room, row
    for item in order:
        some = open_rows.setdefault(groups[item], [])
        place = next((k for k, (room, _) in enumerate(some) if room >= sizes[item]), None)
        if place is None:
            rows.append([])
            some.append((length, rows[-1]))
            place = len(some) - 1
        room, row = some[place]
        row.append(item)
        some[place] = (room - sizes[item], row)
        del some[:-_OPEN_ROWS]
    return rows


class PackedTokens(Dataset[dict[str, Any]]):
    """Rows of `length` ids, with whole utterances of one speaker; read from the memmap of a store.

    An item is asked for by (row, draw): the parts that are left out depend on both and on the seed
    alone, so a training that resumes gets the same rows. `EpochBatchSampler(..., with_draws=True)`
    gives such items.

    Parameters
    ----------
    store : TokenStore
        Tokens of the corpus, one a frame.
    vocabulary : Vocabulary
        Of the codec of these tokens.
    order : sequence of str
        Parts of an utterance, see `Vocabulary.utterance`.
    length : int
        Ids of a row; a longer utterance is cut.
    texts, speakers : mapping of str to str, optional
        Of each clip by its id, default those of the store. Other clips are left out.
    text_dropout : float
        Share of the utterances without their text, which then are speech alone.
    prompt_text_dropout : float
        The same for the first utterance of a row: a user's prompt of a voice has no text.
    seed : int
        Of the packing and of what is left out.

    Raises
    ------
    UserError
        No utterance, several streams of tokens, tokens of another codec, or a text with a character
        that the vocabulary does not have.
    """

    def __init__(
        self,
        store: TokenStore,
        vocabulary: Vocabulary,
        order: Sequence[str],
        length: int,
        texts: Mapping[str, str] | None = None,
        speakers: Mapping[str, str] | None = None,
        text_dropout: float = 0.0,
        prompt_text_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.store, self.vocabulary, self.order, self.length = store, vocabulary, order, length
        self.text_dropout, self.prompt_text_dropout = text_dropout, prompt_text_dropout
        self.seed = seed
        if store.streams != 1 or store.vocabulary.codebook_size != vocabulary.codebook_size:
            raise UserError(
                f"{store.folder}: {store.streams} streams of {store.vocabulary.codebook_size}"
                f" tokens, by {store.meta['model']}; the model has one stream of"
                f" {vocabulary.codebook_size}: tokenize with its codec"
            )
        known = dict(zip(store.ids, store.text, strict=True)) if texts is None else texts
        voices = dict(zip(store.ids, store.spk_id, strict=True)) if speakers is None else speakers
        self.places = [k for k, name in enumerate(store.ids) if name in known]
        self.texts = [known[store.ids[place]] for place in self.places]
        if not self.places:
            raise UserError(f"{store.folder}: no clip of the set; tokenize the set")
        self.rows = pack(self._sizes(), [voices[store.ids[k]] for k in self.places], length, seed)

    def _sizes(self) -> list[int]:
        sizes = (self.store.index[self.places, 1] + 2).tolist()
        if "text" in self.order:
            names = (self.store.ids[place] for place in self.places)
            texts = text_sizes(self.vocabulary, dict(zip(names, self.texts, strict=True)))
            sizes = [size + more + 1 for size, more in zip(sizes, texts, strict=True)]
        return sizes

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    @property
    def durations(self) -> list[float]:
        """Number of utterances of each row, for the sampler."""
        return [float(len(row)) for row in self.rows]

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        """Return a row, or a row and how often it was drawn before."""
        index, draw = item if isinstance(item, tuple) else (item, 0)
        random = np.random.default_rng(stable_seed(self.seed, "row", index, draw))
        row = random.permutation(self.rows[index]).tolist()
        share = self.prompt_text_dropout if len(row) > 1 else self.text_dropout
        parts = []
        for k in row:
            kept = ["speech"] if random.random() < share else self.order
            toks, share = self.store[self.places[k]], self.text_dropout
            parts.append(self.vocabulary.utterance(kept, self.texts[k], toks))
        ids, is_target = (torch.cat(each)[: self.length] for each in zip(*parts, strict=True))
        return {"id": f"row {index}", "ids": ids, "is_target": is_target, "length": self.length}


def collate_rows(items: Sequence[Mapping[str, Any]]) -> PackedBatch:
    """Join rows; all have the same length, with 0 in the padding.

    Example
    -------
    >>> item = {"id": "a", "ids": torch.tensor([3, 5]), "is_target": torch.tensor([False, True])}
    >>> batch = collate_rows([{**item, "length": 3}])
    >>> batch.ids, batch.is_target, batch.lengths
    (tensor([[3, 5, 0]]), tensor([[False,  True, False]]), tensor([2]))
    """
    length = max(item["length"] for item in items)
    ids, is_target = (
        torch.stack([fill(item[name], length) for item in items]) for name in ("ids", "is_target")
    )
    lengths = torch.tensor([len(item["ids"]) for item in items])
    names = [item["id"] for item in items]
    return PackedBatch(names, [item.get("group", "") for item in items], ids, is_target, lengths)


def fill(x: Tensor, length: int) -> Tensor:
    """X (N,) with zeros up to (length,)."""
    return torch.nn.functional.pad(x, (0, length - len(x)))
