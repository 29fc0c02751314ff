"""Write and read tokens of whole corpora for speech language models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from focalcodec.tokenize.store import TokenStore
    from focalcodec.tokenize.vocabulary import TokenVocabulary

__all__ = ["TokenStore", "TokenVocabulary"]


def __getattr__(name: str) -> Any:
    """Import a class, and torch with it, when it is first used: the commands start faster."""
    if name == "TokenStore":
        from focalcodec.tokenize.store import TokenStore

        return TokenStore
    if name == "TokenVocabulary":
        from focalcodec.tokenize.vocabulary import TokenVocabulary

        return TokenVocabulary
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
