"""Whole corpora to tokens for speech language models, and reading them back."""

from focalcodec.tokenize.store import TokenStore
from focalcodec.tokenize.vocabulary import TokenVocabulary

__all__ = ["TokenStore", "TokenVocabulary"]
