"""Voice conversion without training: docs/voice_conversion.md."""

from focalcodec.conversion.convert import convert, convert_feats, convert_toks, feats_changer
from focalcodec.conversion.reference_set import ReferenceSet

__all__ = ["ReferenceSet", "convert", "convert_feats", "convert_toks", "feats_changer"]
