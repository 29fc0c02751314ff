"""Batches of a language model: packed rows to train on, single clips to measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from focalcodec.coders.focal import FocalCoder
from focalcodec.errors import UserError
from focalcodec.lm import PackedTokens, Vocabulary
from focalcodec.lm.packing import collate_rows, text_sizes
from focalcodec.probes.tokens import ProbeCodec
from focalcodec.tokenize import TokenStore
from focalcodec.training.probe_brain import TokenLoaders
from focalcodec.training.run.loaders import Rows, batch_loader


def make_vocabulary(codec: ProbeCodec, characters: str) -> Vocabulary:
    """Vocabulary of a codec's tokens and of characters, or of the bytes of UTF-8 for "bytes".

    Raises `UserError` for a codec with several tokens a frame.
    """
    if codec.streams > 1:
        raise UserError(
            f"codec={codec.text}: {codec.streams} tokens a frame; a language model here needs a"
            " codec with one stream, such as demo"
        )
    return Vocabulary(codec.codebook_size, None if characters == "bytes" else characters)


class PackedLoaders(TokenLoaders):
    """Data loaders: training rows of whole utterances, one speaker a row; other sets clip by clip.

    `tokenized` is the output of `focalcodec tokenize` for the training set, or null: then the
    training splits are tokenised once, and stored in `token_folder`.
    """

    def _training(self, rows: Rows) -> DataLoader:
        hparams = self.hparams
        store, known = self._store(rows)
        dataset = PackedTokens(
            store,
            make_vocabulary(self.codec, hparams["characters"]),
            hparams["order"],
            hparams["row_length"],
            texts={name: row["wrd"] for name, row in known.items()},
            speakers={name: row["spk_id"] for name, row in known.items()},
            text_dropout=hparams["text_dropout"],
            prompt_text_dropout=hparams["prompt_text_dropout"],
            seed=hparams["seed"],
        )
        return batch_loader(
            dataset,
            hparams,
            collate_rows,
            batch_size=hparams["batch_size"],
            passes=hparams["passes_per_epoch"],
            drop_last=True,
            with_draws=True,
        )

    def _store(self, rows: Rows) -> tuple[TokenStore, dict[str, Mapping[str, Any]]]:
        """Tokens of the training set, and the rows of the clips that can be used."""
        hparams, usable = self.hparams, self.hparams["brain"].usable
        if hparams["tokenized"] is not None:
            store = TokenStore(hparams["tokenized"])
            if isinstance(self.codec.coder, FocalCoder):
                store.for_codec(self.codec.coder.codec)
            clips = zip(store.ids, store.text, store.spk_id, strict=True)
            stored = {name: {"wrd": text, "spk_id": who} for name, text, who in clips}
            return store, {name: row for name, row in stored.items() if usable(row)}
        least, most = hparams["min_seconds"], hparams["max_seconds"]
        fits = [row for row in rows if least <= row["duration"] <= most]
        known = {row["ID"]: row for row in fits if usable(row)}
        if "text" in hparams["order"]:  # before hours of work
            if not known:
                raise UserError(
                    f"{len(rows)} training clips, and none has a transcript of min_seconds to"
                    " max_seconds; give transcripts, or train lm.yaml, which needs none"
                )
            texts = {name: row["wrd"] for name, row in known.items()}
            text_sizes(make_vocabulary(self.codec, hparams["characters"]), texts)
        return self._tokens(rows, hparams["source"]), known


def voice_prompts(
    store: TokenStore, rows: Rows, voices: Mapping[str, Any], codec: ProbeCodec, seconds: float
) -> dict[str, Tensor]:
    """Toks of a training clip of the speaker of each voice, by the voice's name.

    It is the clip whose length is the nearest to that of a prompt. Raises `UserError` for a speaker
    without clips.
    """
    speaker = dict(zip(store.ids, store.spk_id, strict=True))
    speaker |= {row["ID"]: row["spk_id"] for row in rows}
    wanted = round(seconds * codec.tokenizer.token_rate)
    best: dict[str, tuple[int, int]] = {}
    for place, name in enumerate(store.ids):
        who, frames = speaker.get(name), int(store.index[place, 1])
        if who and frames:
            distance = abs(frames - wanted)
            best[who] = min(best.get(who, (distance, place)), (distance, place))
    for name, who in voices.items():
        if str(who) not in best:
            known = ", ".join(sorted(best))
            raise UserError(f"voices: {name}: {who}: no training clip of it; there are {known}")
    return {name: store[best[str(who)][1]][:wanted] for name, who in voices.items()}
