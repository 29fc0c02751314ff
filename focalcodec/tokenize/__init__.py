"""Write and read tokens of whole corpora for speech language models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from focalcodec.tokenize.store import TokenStore, TokenVocabulary

__all__ = ["TokenStore", "TokenVocabulary"]


def __getattr__(name: str) -> Any:
    """Import a class, and torch with it, when it is first used: the commands start faster."""
    if name in __all__:
        from focalcodec.tokenize import store

        return getattr(store, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
