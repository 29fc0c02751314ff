"""Continue sequences by sampling, one step of a model at a time.

Each row has its own random numbers, from its own seed, so a row of a batch gets what it gets alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focalcodec.errors import UserError
from focalcodec.lm.model import KeyValueCache, SpeechLM

_FEW = 1024


@dataclass(frozen=True)
class Sampling:
    """How an id is drawn from the probabilities of a model.

    Raises `UserError` for a value out of range.
    """

    temperature: float = 1.0
    """The logits are divided by it; 0 takes the most probable id."""
    top_p: float = 0.9
    """Only the most probable ids are drawn, up to this sum of probabilities."""
    repetition_window: int = 10
    repetition_share: float = 0.1
    """If the drawn id fills more than this share of the window before it, another one is drawn,
    from all ids: arXiv 2406.05370 (VALL-E 2). 1 draws none again."""

    def __post_init__(self) -> None:
        for name, fits, wanted in (
            ("temperature", 0 <= self.temperature < math.inf, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "a share above 0, up to 1"),
            ("repetition_window", self.repetition_window >= 1, "1 or more"),
            ("repetition_share", 0 <= self.repetition_share <= 1, "a share from 0 to 1"),
        ):
            if not fits:
                raise UserError(f"{name}={getattr(self, name)}: give {wanted}")


@torch.inference_mode()
def stream_ids(
    model: SpeechLM,
    prompts: Sequence[Tensor],
    allowed: Tensor,
    end: int,
    most: Sequence[int],
    sampling: Sampling,
    seeds: Sequence[int],
) -> Iterator[list[Tensor]]:
    """Yield the new ids of each row after each step of the model; see `generate`."""
    device, chunk = model.table.device, model.chunk_size
    ids = pad_sequence([prompt.to(device) for prompt in prompts], batch_first=True)  # (B, T)
    lengths: Tensor | None = torch.tensor([len(prompt) for prompt in prompts], device=device)
    cache = KeyValueCache(model, len(ids), ids.shape[1] + max(most) + chunk)
    # (C * A, D): of the ids that may come
    vectors = model.output_vectors()[:, allowed.to(device)].flatten(0, 1)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    recent = torch.full((len(ids), sampling.repetition_window), -1)
    left = [*most]  # of each row, 0 after its end
    while any(left):
        x = model.hidden(ids, lengths=lengths, cache=cache)  # (B, T, D)
        x = x[:, -1] if lengths is None else x[torch.arange(len(x)), lengths - 1]  # (B, D)
        logits = F.linear(x, vectors).unflatten(1, (chunk, -1)).float().cpu()  # (B, C, A)
        numbers = torch.stack([torch.rand(chunk, 2, generator=g) for g in generators])
        new = allowed[draw(logits, allowed, recent, sampling, numbers)]  # (B, C)
        kept = []
        for row, found in enumerate(new.tolist()):
            found = found[: left[row]]
            ends = end in found
            kept.append(new[row, : found.index(end) + 1 if ends else len(found)])
            left[row] = 0 if ends else left[row] - len(found)
        recent = torch.cat([recent, new], dim=1)[:, -sampling.repetition_window :]
        ids, lengths = new.to(device), None
        yield kept


def generate(
    model: SpeechLM,
    prompts: Sequence[Tensor],
    allowed: Tensor,
    end: int,
    most: Sequence[int],
    sampling: Sampling | None = None,
    seeds: Sequence[int] = (0,),
) -> list[Tensor]:
    """Continue each prompt until `end`, or for at most so many ids.

    Parameters
    ----------
    model : SpeechLM
        In eval mode.
    prompts : sequence of Tensor
        Ids (N,) of each row, at least one.
    allowed : Tensor
        (A,) ids that can be drawn, with `end`.
    end : int
        Id after which a row ends; it is the last id of the result.
    most : sequence of int
        Most new ids of each row.
    sampling : Sampling, optional
        Default `Sampling()`.
    seeds : sequence of int
        Of each row.

    Returns
    -------
    list of Tensor
        New ids (M,) of each row, on the CPU.

    Example
    -------
    >>> model = SpeechLM(8, hidden_size=8, num_layers=1, num_heads=1, num_kv_heads=1).eval()
    >>> prompt, allowed = torch.tensor([1, 2]), torch.arange(4)
    >>> found = generate(model, [prompt], allowed, 0, [5], seeds=[7])
    >>> again = generate(model, [prompt] * 2, allowed, 0, [5, 5], seeds=[7, 8])
    >>> torch.equal(found[0], again[0])
    True
    """
    steps = stream_ids(model, prompts, allowed, end, most, sampling or Sampling(), seeds)
    rows = zip(*steps, strict=True)
    return [torch.cat(row) for row in rows] or [torch.zeros(0, dtype=torch.int64)] * len(prompts)


def draw(
    logits: Tensor, allowed: Tensor, recent: Tensor, sampling: Sampling, numbers: Tensor
) -> Tensor:
    """Places (B, C) in `allowed` (A,) of the ids that are drawn from logits (B, C, A).

    `recent` (B, W) are the ids before, `numbers` (B, C, 2) are uniform in [0, 1): one for the most
    probable ids, one for the second drawing.
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = (logits / sampling.temperature).softmax(dim=-1)
    highest, order = _highest(probabilities, sampling.top_p)
    sums = highest.cumsum(dim=-1)  # (B, C, K)
    # the smallest set whose sum reaches top_p
    last = (sums < sampling.top_p).sum(dim=-1, keepdim=True).clamp(max=sums.shape[-1] - 1)
    nucleus = sums.gather(-1, last)  # (B, C, 1)
    places = order.gather(-1, _place(sums, numbers[..., :1] * nucleus))[..., 0]  # (B, C)
    window = recent.shape[1]
    repeats = (recent[:, None] == allowed[places][..., None]).sum(dim=-1)  # (B, C)
    again = repeats > sampling.repetition_share * window
    if bool(again.any()):
        sums = probabilities.cumsum(dim=-1)  # (B, C, A)
        second = _place(sums, numbers[..., 1:] * sums[..., -1:])[..., 0]
        places = torch.where(again, second, places)
    return places


def _highest(probabilities: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Highest probabilities (B, C, K) with a sum of at least `share`, sorted, and their places."""
    # all are sorted only where the first thousand are too few: it takes 20 times as long
    found = probabilities.topk(min(_FEW, probabilities.shape[-1]))
    if bool((found.values.sum(dim=-1) < share).any()):
        found = probabilities.topk(probabilities.shape[-1])
    return found.values, found.indices


def _place(sums: Tensor, wanted: Tensor) -> Tensor:
    """Place (B, C, 1) of the first sum above a number (B, C, 1)."""
    return torch.searchsorted(sums, wanted, right=True).clamp(max=sums.shape[-1] - 1)
