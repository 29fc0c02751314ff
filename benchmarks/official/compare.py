"""Results as flat dictionaries, and how far two of them are apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Size, Tensor

LIMIT = 1e-5  # largest difference, relative to values above 1


class Outcome(NamedTuple):
    """How a case ended: `ok`, and what the table says about it."""

    ok: bool
    text: str


def flatten(result: Any, name: str = "") -> dict[str, Any]:
    """Leaves of nested tuples, lists and dicts by their paths; lists and tuples are the same."""
    if isinstance(result, (tuple, list)) and not isinstance(result, Size):
        items: Any = enumerate(result)
    elif isinstance(result, dict):
        items = result.items()
    else:
        return {name: tuple(result) if isinstance(result, Size) else result}
    leaves = {f"{name}#": len(result)} if not isinstance(result, dict) else {}
    for key, value in items:
        leaves |= flatten(value, f"{name}.{key}" if name else str(key))
    return leaves


def attempt(run: Callable[[], Any]) -> dict[str, Any]:
    """Leaves of a result; an exception is a result too."""
    try:
        return flatten(run())
    # whatever stops a client of the package is what the table shows
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0]
        return {"error": f"{type(error).__name__}: {line}"[:150]}


def compare(expected: dict[str, Any], actual: dict[str, Any], limit: float = LIMIT) -> Outcome:
    """Compare the leaves of two results: names, shapes, types, values."""
    if "error" in actual and "error" not in expected:
        return Outcome(False, actual["error"])
    if "error" in expected:
        both = "error" in actual
        text = "both refuse" if both else f"official: {expected['error']}"
        return Outcome(both, text)
    for name in [*expected, *actual]:
        if name not in actual or name not in expected:
            where = "ours" if name not in actual else "the official"
            return Outcome(False, f"{name}: missing in {where} result")
    worst = 0.0
    for name, value in expected.items():
        other = actual[name]
        if isinstance(value, Tensor) and isinstance(other, Tensor):
            if value.shape != other.shape or value.dtype != other.dtype:
                shapes = f"{tuple(other.shape)} {other.dtype}"
                return Outcome(False, f"{name}: {shapes}, not {tuple(value.shape)} {value.dtype}")
            if value.numel():
                size = value.abs().double().clamp(min=1)
                errors = (value.double() - other.double()).abs() / size
                worst = max(worst, float(errors.max()))
        elif isinstance(value, float) and isinstance(other, float):
            worst = max(worst, abs(value - other) / max(1.0, abs(value)))
        elif type(value) is not type(other) or value != other:
            return Outcome(False, f"{name}: {other!r:.60}, not {value!r:.60}")
    # NaN is not within the limit
    return Outcome(worst <= limit, "equal" if worst == 0 else f"{worst:.1e}")
