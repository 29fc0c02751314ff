"""Header of a token file: what its tokens mean, in less than 100 bytes (docs/token_files.md)."""

from __future__ import annotations

import string
import unicodedata
from dataclasses import dataclass
from zlib import crc32

from focalcodec.errors import UserError
from focalcodec.fct.bytes import CRC_BYTES, ByteReader

MAGIC = b"FCT"
VERSION = 1
FIXED_BYTES = 36
HASH_DIGITS = 16
TEXT_BYTES = 255
HEADER_BYTES = FIXED_BYTES + 2 * TEXT_BYTES + CRC_BYTES  # the longest header

# Integers of the fixed part behind the hash, in their order: name and bytes.
NUMBERS = (
    ("samples_per_token", 2),
    ("sample_rate_input", 3),
    ("sample_rate_output", 3),
    ("sample_rate", 3),
    ("num_samples", 5),
)
TOKENS_BYTES = 4
HEX = set(string.digits + "abcdef")


@dataclass(frozen=True)
class TokenHeader:
    """What the tokens of a file mean.

    Parameters
    ----------
    model : str
        Name of the model, at most 255 bytes of UTF-8.
    weights_sha256 : str
        SHA-256 of its weights (`focalcodec.hub.fingerprint`), 16 to 64 hexadecimal digits. The
        first 16 are kept.
    bits : int
        Bits a token, 1..32.
    samples_per_token : int
        Samples at `sample_rate_input` that one token stands for, 1..65535.
    sample_rate_input, sample_rate_output : int
        Rates that the codec hears and speaks at, Hz, below 2^24.
    sample_rate : int
        Rate of the audio that was encoded, Hz, below 2^24.
    num_samples : int
        Its samples at `sample_rate`, 1..2^40 - 1.
    id : str
        Name of the clip, at most 255 bytes of UTF-8; may be empty.

    Raises
    ------
    UserError
        A field is not one of these.

    Example
    -------
    >>> header = TokenHeader("me/codec", "0123456789abcdef", 13, 320, 16000, 24000, 48000, 96000)
    >>> header.token_rate, header.bitrate, header.seconds
    (50.0, 650.0, 2.0)
    """

    model: str
    weights_sha256: str
    bits: int
    samples_per_token: int
    sample_rate_input: int
    sample_rate_output: int
    sample_rate: int
    num_samples: int
    id: str = ""

    def __post_init__(self) -> None:
        _check_text("model", self.model, min_bytes=1)
        _check_text("id", self.id, min_bytes=0)
        digits = self.weights_sha256
        if not isinstance(digits, str) or not 16 <= len(digits) <= 64 or set(digits) - HEX:
            raise UserError(
                f"weights_sha256: {digits!r}; give 16 to 64 hexadecimal digits, in lower case"
            )
        object.__setattr__(self, "weights_sha256", digits[:HASH_DIGITS])
        _check_number("bits", self.bits, 32)
        for name, size in NUMBERS:
            _check_number(name, getattr(self, name), 256**size - 1)

    @property
    def token_rate(self) -> float:
        """Tokens a second, Hz."""
        return self.sample_rate_input / self.samples_per_token

    @property
    def bitrate(self) -> float:
        """Bits a second of packed tokens, without the header."""
        return self.token_rate * self.bits

    @property
    def seconds(self) -> float:
        """Duration of the audio that was encoded."""
        return self.num_samples / self.sample_rate


def header_bytes(header: TokenHeader, num_tokens: int, body: int) -> bytes:
    """Lay a header out as it stands in a file, its CRC-32 included.

    Parameters
    ----------
    header : TokenHeader
        What the tokens mean.
    num_tokens : int
        Tokens in the file.
    body : int
        Number of the way they are stored.

    Returns
    -------
    bytes
        At most `HEADER_BYTES`.

    Raises
    ------
    UserError
        `num_tokens` is not in 1..2^32 - 1, or the audio is longer than that many tokens last.

    Example
    -------
    >>> name, weights = "lucadellalib/focalcodec_12_5hz", "0123456789abcdef"
    >>> header = TokenHeader(
    ...     name, weights, 13, 1280, 16000, 16000, 16000, 160000, id="1272-128104-0000"
    ... )
    >>> len(header_bytes(header, num_tokens=125, body=0))
    86
    """
    check_duration(header, num_tokens)
    model, id = header.model.encode(), header.id.encode()
    data = MAGIC + bytes([VERSION, body, header.bits, len(model), len(id)])
    data += bytes.fromhex(header.weights_sha256)
    for name, size in NUMBERS:
        data += getattr(header, name).to_bytes(size, "little")
    data += num_tokens.to_bytes(TOKENS_BYTES, "little") + model + id
    return data + crc32(data).to_bytes(CRC_BYTES, "little")


def read_header(reader: ByteReader) -> tuple[TokenHeader, int, int]:
    """Read a header and nothing behind it.

    Parameters
    ----------
    reader : ByteReader
        At the begin of a token file.

    Returns
    -------
    header : TokenHeader
        What the tokens mean.
    num_tokens : int
        Tokens in the file.
    body : int
        Number of the way they are stored, not yet looked at.

    Raises
    ------
    UserError
        Not a token file, of a later version, truncated, corrupted, or a field out of range.

    Example
    -------
    >>> import io
    >>> read_header(ByteReader(io.BytesIO(b"RIFF"), "a.wav"))
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: a.wav: not a token file, it begins with b'RIF'; give a .fct file
    """
    magic = reader.read(len(MAGIC), "header")
    if magic != MAGIC:
        raise UserError(
            f"{reader.name}: not a token file, it begins with {magic!r}; give a .fct file"
        )
    version = reader.read(1, "header")[0]
    if version != VERSION:
        raise UserError(
            f"{reader.name}: version {version} of the format, and {VERSION} can be read;"
            " update focalcodec, or copy the file again"
        )
    fixed = reader.read(FIXED_BYTES - len(MAGIC) - 1, "header")
    texts = reader.read(fixed[2] + fixed[3], "header")
    reader.check_crc("header")
    try:
        header, num_tokens = _parse(fixed, texts)
        check_duration(header, num_tokens)
    except UserError as error:
        raise UserError(f"{reader.name}: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{reader.name}: model or id is not UTF-8, {texts!r}; encode the audio again"
        ) from error
    return header, num_tokens, fixed[0]


def check_duration(header: TokenHeader, num_tokens: int) -> None:
    """Make sure that there are tokens, and enough for the audio that the header promises.

    A model may drop the end of the audio: two tokens and a second are let pass.

    Raises
    ------
    UserError
        There are none, too many for the format, or the audio is longer.

    Example
    -------
    >>> header = TokenHeader("m", "0123456789abcdef", 13, 320, 16000, 16000, 16000, 10**9)
    >>> check_duration(header, num_tokens=50)
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: num_samples: 1000000000 at 16000 Hz, and 50 tokens last 1.00 s; \
give the number that went into encode
    """
    _check_number("num_tokens", num_tokens, 256**TOKENS_BYTES - 1)
    longest = (num_tokens + 2) * header.samples_per_token + header.sample_rate_input
    if header.num_samples * header.sample_rate_input > longest * header.sample_rate:
        raise UserError(
            f"num_samples: {header.num_samples} at {header.sample_rate} Hz, and {num_tokens} tokens"
            f" last {num_tokens / header.token_rate:.2f} s; give the number that went into encode"
        )


def _parse(fixed: bytes, texts: bytes) -> tuple[TokenHeader, int]:
    """Header and number of tokens, from the fixed part behind the version and the strings."""
    _, bits, model_bytes, _ = fixed[:4]
    offset = 4 + HASH_DIGITS // 2
    weights, numbers = fixed[4:offset].hex(), {}
    for name, size in (*NUMBERS, ("num_tokens", TOKENS_BYTES)):
        numbers[name] = int.from_bytes(fixed[offset : offset + size], "little")
        offset += size
    num_tokens = numbers.pop("num_tokens")
    model, id = texts[:model_bytes].decode(), texts[model_bytes:].decode()
    return TokenHeader(model, weights, bits, **numbers, id=id), num_tokens


def _check_text(name: str, text: str, min_bytes: int) -> None:
    try:
        size = len(text.encode())
    except (UnicodeEncodeError, AttributeError) as error:
        raise UserError(f"{name}: {text!r} is not text; give a str of Unicode") from error
    if not min_bytes <= size <= TEXT_BYTES:
        raise UserError(
            f"{name}: {text!r} takes {size} bytes; give {min_bytes}..{TEXT_BYTES} bytes of UTF-8"
        )
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text):
        raise UserError(f"{name}: {text!r} has control characters; give text of one line")


def _check_number(name: str, value: int, largest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
        raise UserError(f"{name}: {value!r}; it must be an integer in 1..{largest}")
