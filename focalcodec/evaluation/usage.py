"""Use of the codebook on a set, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from focalcodec.metrics.codes import CodeUsage, code_usage, count_codes

INTERVALS = ("usage_reachable", "entropy_reachable")
_MOST_GROUPS = 200
_NORMAL_95 = 1.96


def usage_of(
    coded: Mapping[str, Mapping[str, Any]], coder: Mapping[str, Any]
) -> dict[str, Any] | None:
    """How a codec with one stream of tokens uses its codebook.

    Parameters
    ----------
    coded : mapping
        Records of the clips, with `toks`.
    coder : mapping
        With `codebook_size`.

    Returns
    -------
    dict or None
        `metrics.codes.CodeUsage`, and `intervals` of `INTERVALS` where there are two clips or
        more; None without tokens.

    Example
    -------
    >>> use = usage_of({"a": {"toks": [0, 1, 0, 1]}}, {"codebook_size": 16})
    >>> use["usage_percent"], use["entropy_seen"], use["entropy_codebook"], use["intervals"]
    (12.5, 100.0, 25.0, {})
    """
    clips = [torch.tensor(record["toks"]) for record in coded.values() if record.get("toks")]
    size = coder["codebook_size"]
    if not clips or size is None:
        return None
    codes, counts = count_codes(clips, size)
    whole = code_usage(counts, size)
    return {**asdict(whole), "intervals": _intervals(whole, clips, codes, counts)}


def jackknife(value: float, without: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a set's figure, from the figures with one clip, or group, left out each.

    Clips drawn twice, as a bootstrap draws them, show no new codes, so it would find too few. The
    jackknife draws none twice (Heltshe and Forrester, "Estimating species richness using the
    jackknife procedure", Biometrics 39, 1983).

    Parameters
    ----------
    value : float
        Of all.
    without : sequence of float
        Two or more.

    Returns
    -------
    low, high : float
        The value less and more 1.96 standard errors.

    Example
    -------
    >>> low, high = jackknife(2.0, [2.5, 2.0, 1.5])  # of the mean of 1, 2 and 3
    >>> round(low, 2), round(high, 2)
    (0.87, 3.13)
    """
    count = len(without)
    mean = sum(without) / count
    variance = (count - 1) / count * sum((other - mean) ** 2 for other in without)
    margin = _NORMAL_95 * math.sqrt(variance)
    return value - margin, value + margin


def _intervals(
    whole: CodeUsage, clips: Sequence[Tensor], codes: Tensor, counts: Tensor
) -> dict[str, tuple[float, float]]:
    groups = min(len(clips), _MOST_GROUPS)
    if groups < 2:
        return {}
    others = []
    for first in range(groups):
        toks = torch.cat([*clips[first::groups]]).long()
        own = torch.searchsorted(codes, toks).bincount(minlength=len(codes))
        others.append(code_usage(counts - own, whole.codebook_size))
    return {
        name: jackknife(getattr(whole, name), [getattr(other, name) for other in others])
        for name in INTERVALS
    }
