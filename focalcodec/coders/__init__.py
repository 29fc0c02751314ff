"""One interface for all codecs: FocalCodec, other codecs, and the unchanged recordings."""
