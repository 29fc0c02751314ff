"""Write and read tokens of whole corpora for speech language models."""

from focalcodec.tokenize.store import TokenStore
from focalcodec.tokenize.vocabulary import TokenVocabulary

__all__ = ["TokenStore", "TokenVocabulary"]
