"""Use of the codebook on a set, with intervals over its clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from focalcodec.evaluation.intervals import Figure, jackknife
from focalcodec.metrics.codes import CodebookUsage, code_usage, count_codes

WITH_INTERVALS = ("usage_reachable", "entropy_reachable")
_MOST_GROUPS = 200


def usage_of(
    coded: Mapping[str, Mapping[str, Any]], coder: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the use of the codebook of a codec with one stream of tokens, None for others.

    `coded` has the clips' records with `toks`, `coder` has `codebook_size`. The result has the
    fields of `metrics.codes.CodebookUsage`, at most 100 %, and `intervals` of `WITH_INTERVALS` if
    there are two clips or more.

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
    usage = {**asdict(whole), "intervals": _intervals(whole, clips, codes, counts)}
    return {**usage, **{name: _percent(usage[name]) for name in WITH_INTERVALS}}


def usage_figure(usage: Mapping[str, Any] | None, name: str) -> Figure | None:
    """Return a figure of `usage_of` with its interval; None if there is none.

    It is at most 100 %. In cards of earlier versions it can be higher: by chance, a set may have
    more codes than equally likely codes have on average.

    Example
    -------
    >>> use = {"usage_reachable": 101.0, "intervals": {"usage_reachable": [97.0, 105.0]}}
    >>> usage_figure(use, "usage_reachable")
    Figure(value=100.0, low=97.0, high=100.0, count=0)
    """
    value = (usage or {}).get(name)
    if usage is None or not isinstance(value, int | float):
        return None
    low, high = (usage.get("intervals") or {}).get(name) or (value, value)
    return Figure(_percent(value), _percent(low), _percent(high), 0)


def _percent(value: float) -> float:
    return min(max(float(value), 0.0), 100.0)


def _intervals(
    whole: CodebookUsage, clips: Sequence[Tensor], codes: Tensor, counts: Tensor
) -> dict[str, list[float]]:
    groups = min(len(clips), _MOST_GROUPS)
    if groups < 2:
        return {}
    others = []
    # Each group of clips is left out once.
    for first in range(groups):
        toks = torch.cat([*clips[first::groups]]).long()
        own = torch.searchsorted(codes, toks).bincount(minlength=len(codes))
        others.append(code_usage(counts - own, whole.codebook_size))
    return {
        name: [
            _percent(bound)
            for bound in jackknife(getattr(whole, name), [getattr(other, name) for other in others])
        ]
        for name in WITH_INTERVALS
    }
