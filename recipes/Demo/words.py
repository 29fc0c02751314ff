"""A loss on words: predictions of Whisper's decoder from qfeats, against those from clean feats.

The feats of the demo codec are a mix of Whisper's layers 0 and 6, and Whisper's decoder takes layer
6. `WordReader` predicts this layer from feats; `fit_words.py` trains it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from focalcodec.encoders.whisper_decoder import PROMPT_LENGTH
from focalcodec.encoders.whisper_packages import whisper_base_decoder
from focalcodec.errors import UserError
from focalcodec.nn.convnext import ConvNeXt
from focalcodec.nn.masking import valid_mask, zero_padding


class WordReader(nn.Module):
    """Feats (B, N, input_dim) to Whisper's last layer (B, N, dim), each frame normalised.

    Example
    -------
    >>> WordReader(input_dim=4, dim=8)(torch.zeros(2, 10, 4), torch.ones(2, 10) > 0).shape
    torch.Size([2, 10, 8])
    """

    def __init__(self, input_dim: int = 256, dim: int = 512) -> None:
        super().__init__()
        self.backbone = ConvNeXt(input_dim, num_layers=3, dim=dim, ffn_dim=3 * dim // 2)
        self.head = nn.Linear(dim, dim)

    def forward(self, feats: Tensor, mask: Tensor) -> Tensor:
        """`mask` (B, N) bool is True on valid frames; the others get arbitrary values."""
        return self.head(self.backbone(zero_padding(feats, mask), mask=mask)[0])


class WordLoss(nn.Module):
    """Kullback-Leibler divergence of Whisper's predictions, in nats for each token of a transcript.

    The decoder of Whisper base gets the tokens of the transcript so far, and the frames of a clip:
    once from the clean feats, which gives the target, once from qfeats. So the loss is small if
    tokens keep what a recogniser needs. It is frozen, and no part of the codec.

    Parameters
    ----------
    reader : str or path
        Weights of `WordReader`, from `fit_words.py`.
    clips : int
        Largest number of clips of a batch that have this loss, because it costs more than the rest
        of a step.

    Raises
    ------
    UserError
        `reader` has no such weights, or Whisper base is not installed.
    """

    def __init__(self, reader: str | os.PathLike[str], clips: int = 6) -> None:
        super().__init__()
        self.clips = clips
        self.decoder = whisper_base_decoder()
        try:
            weights = load_file(reader)
            input_dim = weights["backbone.embedding.weight"].shape[1]
            self.reader = WordReader(input_dim, self.decoder.dim).requires_grad_(False)
            self.reader.load_state_dict(weights)
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise UserError(f"{reader}: no weights of a WordReader; run fit_words.py") from error
        self._languages: dict[str, str] = {}

    def forward(
        self, qfeats: Tensor, feats: Tensor, frames: Tensor, texts: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """Loss of each clip (B,), 0 for one that is left out, and its number of tokens (B,).

        `qfeats` and `feats` are (B, N, D) with `frames` (B,) int64 valid ones. Clips without a text
        are left out, and those after the first `clips` with one.
        """
        loss = torch.zeros(len(texts), device=qfeats.device)
        count = torch.full_like(loss, 1e-6)  # a batch without texts has a mean, too: 0
        used = [i for i, text in enumerate(texts) if text.strip()][: self.clips]
        if not used:
            return loss, count
        longest = int(frames[used].max())
        mask = valid_mask(frames[used], longest)  # (b, N)
        with torch.no_grad():
            clean = self.reader(feats[used, :longest], mask)  # (b, N, dim)
            ids, scored = self._ids([texts[i] for i in used], clean, mask)
            target = self.decoder.logits(self.decoder(ids, clean, mask)[scored])  # (tokens, vocab)
        coded = self.reader(qfeats[used, :longest], mask)
        logits = self.decoder.logits(self.decoder(ids, coded, mask)[scored])
        errors = F.kl_div(
            F.log_softmax(logits.float(), dim=-1),
            F.log_softmax(target.float(), dim=-1),
            log_target=True,
            reduction="none",
        ).sum(dim=-1)  # (tokens,)
        rows = scored.nonzero()[:, 0]
        index = torch.tensor(used, device=rows.device)[rows]
        count = count.index_add(0, index, torch.ones_like(errors))
        return loss.index_add(0, index, errors) / count, count

    def _ids(self, texts: Sequence[str], frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids (b, U) int64 of prompts and texts, and a mask (b, U) of those that predict text."""
        new = [i for i, text in enumerate(texts) if text not in self._languages]
        if new:
            found = self.decoder.languages(frames[new], mask[new])
            self._languages.update(zip((texts[i] for i in new), found, strict=True))
        rows = [torch.tensor(self._text_ids(text)[: self.decoder.max_tokens]) for text in texts]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(frames.device)
        place = torch.arange(ids.shape[1], device=frames.device)
        lengths = torch.tensor([len(row) for row in rows], device=frames.device)[:, None]
        return ids, (place >= PROMPT_LENGTH - 1) & (place < lengths - 1)

    def _text_ids(self, text: str) -> list[int]:
        """Ids of a text; LibriSpeech's transcripts are in capital letters, Whisper's are not."""
        written = text.capitalize() if text.isupper() else text
        return self.decoder.text_ids(written, self._languages[text])
