"""Token files, `.fct`: a small header and packed or entropy-coded tokens, readable as a stream.

docs/token_files.md specifies the format byte by byte.
"""

from focalcodec.fct.entropy import TokenTable
from focalcodec.fct.header import TokenHeader, check_model, header_for
from focalcodec.fct.token_file import TokenReader, read_toks, write_toks

__all__ = [
    "TokenHeader",
    "TokenReader",
    "TokenTable",
    "check_model",
    "header_for",
    "read_toks",
    "write_toks",
]
