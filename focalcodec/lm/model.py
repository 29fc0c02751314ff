"""A decoder-only transformer: ids of a sequence to logits of the ids that follow.

RMSNorm before each block (arXiv 1910.07467), rotary positions (2104.09864), grouped queries
(2305.13245), SwiGLU (2002.05202). What is special to speech tokens: a token is also a vector of
bits, and `chunk_size` tokens can be predicted at once.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.lm.llama import to_llama
from focalcodec.nn.masking import valid_mask, zero_padding


class KeyValueCache:
    """Keys and values of all layers for `max_length` ids of each row, allocated once."""

    def __init__(self, model: SpeechLM, batch_size: int, max_length: int) -> None:
        sizes, like = model.config, model.head
        dim = sizes["hidden_size"] // sizes["num_heads"]
        # (layers, B, max_length, 2, kv_heads, head_dim)
        shape = (sizes["num_layers"], batch_size, max_length, 2, sizes["num_kv_heads"], dim)
        self.memory = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.lengths = torch.zeros(batch_size, dtype=torch.int64, device=like.device)  # (B,)


class Places(NamedTuple):
    """Where the ids of a call are in their sequences; all layers use it."""

    rotation: Tensor  # (2, B, T, 1, head_dim), see `rotate`
    written: tuple[Tensor, Tensor]  # rows (B, 1) and places (B, T) in memory, int64
    known: int  # S, places of memory that are known after the call
    mask: Tensor | None  # (B, 1, T, S) bool, True where a place sees another; None: it sees all


class Attention(nn.Module):
    """Causal self-attention; each key and value serves a group of queries."""

    def __init__(self, hidden_size: int, num_heads: int, num_kv_heads: int) -> None:
        super().__init__()
        self.head_dim = hidden_size // num_heads
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        heads = num_heads + 2 * num_kv_heads  # queries, keys, values
        self.qkv = nn.Linear(hidden_size, heads * self.head_dim, bias=False)
        self.out = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, x: Tensor, where: Places, memory: Tensor | None = None) -> Tensor:
        """(B, T, D) to (B, T, D); memory (B, max_length, 2, kv_heads, head_dim) is written."""
        heads = self.qkv(x).unflatten(2, (-1, self.head_dim))  # (B, T, heads, head_dim)
        turned, v = heads.tensor_split([-self.num_kv_heads], dim=2)
        q, k = rotate(turned, where.rotation).tensor_split([self.num_heads], dim=2)
        if memory is None:  # copies: on a GPU only the kernels for float16 read keys in groups
            groups = self.num_heads // self.num_kv_heads
            k, v = (part.repeat_interleave(groups, dim=2) for part in (k, v))
        else:
            memory[where.written] = torch.stack([k, v], dim=2).to(memory)
            k, v = memory[:, : where.known].unbind(dim=2)  # (B, S, kv_heads, head_dim) both
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        alone = memory is None
        y = F.scaled_dot_product_attention(
            q, k, v, where.mask, is_causal=alone, enable_gqa=not alone
        )
        return self.out(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, hidden_size: int, ffn_size: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(hidden_size, 2 * ffn_size, bias=False)
        self.down = nn.Linear(ffn_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        gate, up = self.gate_up(x).chunk(2, dim=2)
        return self.down(F.silu(gate) * up)


class Layer(nn.Module):
    """Attention, then the feed-forward block; each adds to its input."""

    def __init__(
        self, hidden_size: int, num_heads: int, num_kv_heads: int, ffn_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(hidden_size, eps=1e-5)
        self.attention = Attention(hidden_size, num_heads, num_kv_heads)
        self.ffn_norm = nn.RMSNorm(hidden_size, eps=1e-5)
        self.ffn = FeedForward(hidden_size, ffn_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, where: Places, memory: Tensor | None = None) -> Tensor:
        """(B, T, D) to (B, T, D); the other arguments are those of the attention."""
        x = x + self.dropout(self.attention(self.attention_norm(x), where, memory))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


class SpeechLM(nn.Module):
    """Decoder-only transformer over one vocabulary of text, special ids and speech tokens.

    The vector of an id is a row of a table plus a linear map of the id's bits, at the input and,
    with other weights, at the output: most of thousands of tokens are rare, but no bit is.

    Parameters
    ----------
    vocab_size : int
        Number of ids.
    hidden_size, num_layers, num_heads, num_kv_heads : int
        `num_kv_heads` keys and values serve `num_heads` queries.
    ffn_size : int, optional
        Width of the feed-forward blocks, default `4 * hidden_size`.
    code_dim : int
        L, bits of a token. `codes` (vocab_size, L) must then be filled, see `Vocabulary.codes`.
    chunk_size : int
        Ids that are predicted at once, by as many heads.
    dropout : float
        Of what each block adds, in training.

    Example
    -------
    >>> model = SpeechLM(vocab_size=100, hidden_size=16, num_layers=2, num_heads=4, num_kv_heads=1)
    >>> model(torch.zeros(2, 5, dtype=torch.int64)).shape
    torch.Size([2, 5, 100])
    """

    codes: Tensor
    inverse_periods: Tensor

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 512,
        num_layers: int = 12,
        num_heads: int = 4,
        num_kv_heads: int = 1,
        ffn_size: int | None = None,
        code_dim: int = 0,
        chunk_size: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = {name: value for name, value in locals().items() if name in _ARGUMENTS}
        if hidden_size % (2 * num_heads) or num_heads % num_kv_heads or chunk_size < 1:
            raise UserError(
                f"hidden_size={hidden_size}, num_heads={num_heads}, num_kv_heads={num_kv_heads},"
                f" chunk_size={chunk_size}: give a hidden_size that 2 * num_heads divides, a"
                " num_heads that num_kv_heads divides, and a chunk_size of 1 or more"
            )
        self.chunk_size = chunk_size
        shape = (hidden_size, num_heads, num_kv_heads, ffn_size or 4 * hidden_size, dropout)
        self.table = nn.Parameter(torch.zeros(vocab_size, hidden_size))
        self.bits = nn.Parameter(torch.zeros(hidden_size, code_dim))
        self.layers = nn.ModuleList(Layer(*shape) for _ in range(num_layers))
        self.norm = nn.RMSNorm(hidden_size, eps=1e-5)
        self.head = nn.Parameter(torch.zeros(chunk_size, vocab_size, hidden_size))
        self.head_bits = nn.Parameter(torch.zeros(chunk_size, hidden_size, code_dim))
        self.register_buffer("codes", torch.zeros(vocab_size, code_dim))
        dim = hidden_size // num_heads
        periods = 10_000.0 ** (-torch.arange(0, dim, 2) / dim)  # (head_dim / 2,)
        self.register_buffer("inverse_periods", periods, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                adds = name.endswith(("attention.out.weight", "ffn.down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * num_layers) if adds else 0.02)

    def forward(
        self, ids: Tensor, *, lengths: Tensor | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Logits (B, T, vocab_size) of the next id of ids (B, T), zeros in the padding.

        With `chunk_size` C above 1 they are (B, T, C, vocab_size), of the next C ids. With `cache`,
        ids continue the rows whose keys and values it has, and are added to it.
        """
        x = self.hidden(ids, lengths=lengths, cache=cache)
        logits = torch.einsum("btd,cvd->btcv", x, self.output_vectors())
        return logits[:, :, 0] if self.chunk_size == 1 else logits

    def hidden(
        self, ids: Tensor, *, lengths: Tensor | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Output of the last layer (B, T, D), as `forward`; the head makes logits of it."""
        where = self._places(ids, cache)
        x = F.embedding(ids, self.table) + self.codes[ids] @ self.bits.T  # (B, T, D)
        for number, layer in enumerate(self.layers):
            x = layer(x, where, None if cache is None else cache.memory[number])
        if cache is not None:
            cache.lengths += ids.shape[1] if lengths is None else lengths
        x = self.norm(x)
        return x if lengths is None else zero_padding(x, valid_mask(lengths, x.shape[1]))

    def _places(self, ids: Tensor, cache: KeyValueCache | None) -> Places:
        (batch, count), mask = ids.shape, None
        rows = torch.arange(batch, device=ids.device)[:, None]  # (B, 1)
        places = torch.arange(count, device=ids.device).expand_as(ids)  # (B, T)
        if cache is not None:
            places = places + cache.lengths[:, None]
            count = int(places.max()) + 1
            if ids.shape != (1, 1):  # the only id sees all
                known = torch.arange(count, device=ids.device)  # (S,)
                mask = known <= places[:, None, :, None]  # (B, 1, T, S)
        angles = places[:, :, None, None] * self.inverse_periods  # (B, T, 1, head_dim / 2)
        cos, sin = angles.cos(), angles.sin()
        rotation = torch.stack([torch.cat([cos, cos], dim=3), torch.cat([-sin, sin], dim=3)])
        return Places(rotation, (rows, places), count, mask)

    def output_vectors(self) -> Tensor:
        """Vectors (C, vocab_size, D) of the ids at the output, one set for each head."""
        return self.head + self.codes @ self.head_bits.transpose(1, 2)

    def to_transformers(self) -> Any:
        """Return a `LlamaForCausalLM` with the same logits, for tools that read that model.

        The map of the bits becomes part of its tables. Raises `UserError` for a `chunk_size` above
        1, which Llama does not have, and if transformers is not installed.
        """
        return to_llama(self)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn pairs of channels, half of head_dim apart, of x (B, T, heads, head_dim) by angles.

    `rotation` (2, B, T, 1, head_dim) has the cosines, and the sines with their signs.
    """
    cos, sin = rotation.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([second, first], dim=-1) * sin


_ARGUMENTS = (
    *("vocab_size", "hidden_size", "num_layers", "num_heads", "num_kv_heads"),
    *("ffn_size", "code_dim", "chunk_size", "dropout"),
)
