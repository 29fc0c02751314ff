"""Batches of an aligned model: the phonemes of each text, and prompts of each voice."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lm_readings import focal_codec
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.lm import Phonemes, bits_of_toks, write_phonemes
from focalcodec.probes.token_dataset import TokenDataset
from focalcodec.probes.tokens import ProbeCodec
from focalcodec.training.probe_brain import TokenLoaders
from focalcodec.training.run.folder import RunFolder
from focalcodec.training.run.loaders import Rows

PHONEMES_NAME = "phonemes.json"

logger = logging.getLogger(__name__)


class AlignedLoaders(TokenLoaders):
    """Data loaders; clips with fewer frames than phonemes are left out, because no path fits.

    Parameters
    ----------
    hparams, codec, sets, folder
        See `TokenLoaders`. The folder stores the phonemes.

    Attributes
    ----------
    phonemes : Phonemes
        Of the texts of the training set; clips of other sets with other phonemes are left out.
    code_dim : int
        Bits of a token.
    ids : dict of str to Tensor
        Phonemes (S,) of each text.
    """

    def __init__(
        self,
        hparams: Mapping[str, Any],
        codec: ProbeCodec,
        sets: Mapping[str, Rows],
        folder: RunFolder,
    ) -> None:
        # another quantizer is reported before hours of work
        self.code_dim = bits_of_toks(focal_codec(codec)).shape[1]
        usable, language = hparams["brain"].usable, hparams["phoneme_language"]
        texts = {name: [row["wrd"] for row in rows if usable(row)] for name, rows in sets.items()}
        if not texts["train"]:
            count = len(sets["train"])
            raise UserError(f"{count} training clips, and none has a transcript; give transcripts")
        every = sorted({text for each in texts.values() for text in each})
        written = dict(zip(every, write_phonemes(every, language), strict=True))
        self.phonemes = Phonemes.of((written[text] for text in texts["train"]), language)
        folder.keep(PHONEMES_NAME, json.dumps(self.phonemes.names).encode())
        self.ids = {}
        for text, line in written.items():
            if self.phonemes.knows(line):
                self.ids[text] = self.phonemes.ids(line, text)
        super().__init__(hparams, codec, sets, folder)

    def _dataset(self, rows: Rows, group_by: str | None, min_seconds: float = 0.0) -> TokenDataset:
        dataset = super()._dataset(rows, group_by, min_seconds)
        frames = dataset.store.index[dataset.places[:, 0], 1].tolist()
        fits = [
            row["wrd"] in self.ids and len(self.ids[row["wrd"]]) <= count
            for row, count in zip(dataset.rows, frames, strict=True)
        ]
        if not any(fits):
            raise UserError(
                f"no clip of {len(fits)} is left: each has fewer frames than phonemes, or phonemes"
                f" that the training set does not have; {self.codec.text} has"
                f" {self.codec.tokenizer.token_rate:g} tokens a second, give a codec with more"
            )
        if not all(fits):
            count = len(fits) - sum(fits)
            line = "%d of %d clips are skipped: fewer frames than phonemes, or unknown phonemes"
            logger.info(line, count, len(fits))
        dataset.rows = [row for row, fit in zip(dataset.rows, fits, strict=True) if fit]
        dataset.places = dataset.places[np.array(fits)]
        return dataset


class Prompts:
    """Prompts of the clips of a set: other clips of the same speaker, at most `most` frames.

    A clip without a speaker, or the only one of its speaker, is its own prompt.
    """

    def __init__(self, dataset: TokenDataset, most: int) -> None:
        self.store, self.most = dataset.store, most
        self._speakers: dict[str, dict[str, int]] = {}  # of each, places of clips in the store
        for row, (place, *_) in zip(dataset.rows, dataset.places.tolist(), strict=True):
            self._speakers.setdefault(_speaker(row), {})[row["ID"]] = place

    def toks(self, row: Mapping[str, Any], at_random: bool) -> Tensor:
        """Toks (N,): of a random clip and a random part of it, or of the next clip."""
        known = self._speakers[_speaker(row)]
        places, own = list(known.values()), list(known).index(row["ID"])
        step, first = 1, 0
        if at_random and len(places) > 1:
            step = int(torch.randint(1, len(places), ()))
        toks = self.store[places[(own + step) % len(places)]]
        if at_random and len(toks) > self.most:
            first = int(torch.randint(len(toks) - self.most + 1, ()))
        return toks[first : first + self.most]


def _speaker(row: Mapping[str, Any]) -> str:
    return str(row["spk_id"] or f"clip {row['ID']}")
