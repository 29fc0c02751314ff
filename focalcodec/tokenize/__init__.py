"""Write and read tokens of whole corpora for speech language models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from focalcodec.tokenize.encoder import ClipEncoder
    from focalcodec.tokenize.store import TokenStore, TokenVocabulary

__all__ = ["ClipEncoder", "TokenStore", "TokenVocabulary"]


def __getattr__(name: str) -> Any:
    """Import a class, and torch with it, when it is first used: the commands start faster."""
    if name in __all__:
        module = "encoder" if name == "ClipEncoder" else "store"
        return getattr(import_module(f"focalcodec.tokenize.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
