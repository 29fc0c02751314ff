"""Tokens of whole corpora for speech language models: writing them, and reading them back."""

from focalcodec.tokenize.store import TokenStore
from focalcodec.tokenize.vocabulary import TokenVocabulary

__all__ = ["TokenStore", "TokenVocabulary"]
