"""Whisper's decoder in torch, for losses on words: text and frames to logits (arXiv 2212.04356)."""

from __future__ import annotations

import os
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from focalcodec.errors import UserError
from focalcodec.packages import need

_PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
_LANGUAGE = 1  # place of the language in the prompt
PROMPT_LENGTH = len(_PROMPT)


class WhisperDecoder(nn.Module):
    """Predict each token of a transcript from the tokens before it and the encoder's last layer.

    The decoder of `transformers` takes frames without a mask, because Whisper pads all clips to
    30 s. Here each clip has its own number of valid frames, so that clips are not padded with
    silence. It is frozen: gradients pass through it to the frames.

    Parameters
    ----------
    tokenizer : str or path
        `tokenizer.json` of the model.
    dim, num_layers, num_heads, ffn_dim : int
        Sizes of the transformer.
    vocab_size, max_tokens : int
        Entries of the vocabulary; longest text with its prompt.

    Raises
    ------
    UserError
        `tokenizer` can't be read.
    """

    positions: Tensor

    def __init__(
        self,
        tokenizer: str | os.PathLike[str],
        *,
        dim: int,
        num_layers: int,
        num_heads: int,
        ffn_dim: int,
        vocab_size: int,
        max_tokens: int,
    ) -> None:
        super().__init__()
        self._tokenizer = _read_tokenizer(tokenizer)
        self._languages = {
            number: name[2:-2]
            for name, number in self._tokenizer.get_vocab().items()
            if re.fullmatch(r"<\|[a-z]{2,3}\|>", name)
        }
        self.dim, self.max_tokens = dim, max_tokens
        self.embedding = nn.Embedding(vocab_size, dim)
        self.register_buffer("positions", torch.zeros(max_tokens, dim))
        self.encoder_norm = nn.LayerNorm(dim)  # it closes Whisper's encoder
        self.layers = nn.ModuleList(_Layer(dim, num_heads, ffn_dim) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        self.requires_grad_(False)

    def text_ids(self, text: str, language: str = "en") -> list[int]:
        """Ids of the prompt, of a text and of its end; `UserError` for an unknown language."""
        prompt = [self._tokenizer.token_to_id(name) for name in _PROMPT]
        prompt[_LANGUAGE] = self._tokenizer.token_to_id(f"<|{language}|>")
        if prompt[_LANGUAGE] is None:
            raise UserError(
                f"language={language}: Whisper does not have it; give a code such as en"
            )
        text_ids = self._tokenizer.encode(f" {text.strip()}", add_special_tokens=False).ids
        return [*prompt, *text_ids, self._tokenizer.token_to_id("<|endoftext|>")]

    def forward(self, ids: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Hidden states (B, U, dim) of ids (B, U) int64; `logits` maps them to the vocabulary.

        `frames` (B, N, dim) are the output of the encoder's last layer, before the norm that closes
        the encoder; `mask` (B, N) bool is True on valid frames.
        """
        frames = self.encoder_norm(frames)
        x = self.embedding(ids) + self.positions[: ids.shape[1]]  # (B, U, dim)
        for layer in self.layers:
            x = layer(x, frames, mask[:, None, None])
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., vocab_size) of hidden states (..., dim): the next token."""
        return F.linear(hidden, self.embedding.weight)

    @torch.no_grad()
    def languages(self, frames: Tensor, mask: Tensor) -> list[str]:
        """Most probable language of each clip, as a code such as en; arguments as in `forward`."""
        start = self._tokenizer.token_to_id(_PROMPT[0])
        ids = torch.full((len(frames), 1), start, device=frames.device)
        logits = self.logits(self(ids, frames, mask)[:, 0])  # (B, vocab_size)
        numbers = torch.tensor(sorted(self._languages), device=frames.device)
        return [self._languages[n] for n in numbers[logits[:, numbers].argmax(dim=-1)].tolist()]


class _Layer(nn.Module):
    """Attention to the text so far, attention to the frames, feed-forward; norms before each."""

    def __init__(self, dim: int, num_heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.self_norm, self.cross_norm, self.ffn_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.self_qkv, self.self_out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.cross_query, self.cross_out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.cross_kv = nn.Linear(dim, 2 * dim)
        self.ffn_in, self.ffn_out = nn.Linear(dim, ffn_dim), nn.Linear(ffn_dim, dim)

    def forward(self, x: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        query, key, value = self.self_qkv(self.self_norm(x)).chunk(3, dim=-1)
        x = x + self.self_out(self._attend(query, key, value, is_causal=True))
        query = self.cross_query(self.cross_norm(x))
        key, value = self.cross_kv(frames).chunk(2, dim=-1)
        x = x + self.cross_out(self._attend(query, key, value, attn_mask=mask))
        return x + self.ffn_out(F.gelu(self.ffn_in(self.ffn_norm(x))))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor:
        """Multi-head attention of (B, U, dim) to (B, N, dim)."""
        heads = [x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (query, key, value)]
        return F.scaled_dot_product_attention(*heads, **how).transpose(1, 2).flatten(2)


def _read_tokenizer(path: str | os.PathLike[str]) -> Any:
    tokenizers = need("tokenizers", "pip install 'focalcodec[recipes]'")
    try:
        return tokenizers.Tokenizer.from_file(os.fspath(path))
    except Exception as error:  # the library has no class of its own for it
        raise UserError(f"{path}: no tokenizer ({error}); install the package again") from error
