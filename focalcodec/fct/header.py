"""The header of a token file: the model, the rates and the length (docs/token_files.md)."""

from __future__ import annotations

import operator
import string
import unicodedata
from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

from focalcodec.errors import UserError
from focalcodec.fct.binary import CRC_BYTES, ByteReader

MAGIC = b"FCT"
VERSION = 1
FIXED_BYTES = 36
HASH_DIGITS = 16
TEXT_BYTES = 255
HEADER_BYTES = FIXED_BYTES + 2 * TEXT_BYTES + CRC_BYTES  # the longest header

# Integers that follow the hash, in the order of the file: name and number of bytes.
NUMBERS = (
    ("samples_per_token", 2),
    ("sample_rate_input", 3),
    ("sample_rate_output", 3),
    ("sample_rate", 3),
    ("num_samples", 5),
)
TOKENS_BYTES = 4
STREAM_BODY = 3  # packets: numbers of samples and tokens are 0 in the header
REPEAT_BODY = 5  # packets that begin with tokens of those before
STREAM_BODIES = (STREAM_BODY, REPEAT_BODY)
HEX = set(string.digits + "abcdef")


@dataclass(frozen=True)
class TokenHeader:
    """Model, rates and length for the tokens of a file; `UserError` if a field is not valid.

    Example
    -------
    >>> header = TokenHeader("me/codec", "0123456789abcdef", 13, 320, 16000, 24000, 48000, 96000)
    >>> header.token_rate, header.bitrate, header.seconds
    (50.0, 650.0, 2.0)
    """

    model: str  # name of the model, 1..255 bytes of UTF-8
    weights_sha256: str  # of its weights (hub.fingerprint), 16..64 hex digits; 16 are stored
    bits: int  # per token, 1..32
    samples_per_token: int  # at sample_rate_input, 1..65535
    sample_rate_input: int  # of the encoder's input, Hz, below 2^24
    sample_rate_output: int  # of the decoder's output, Hz, below 2^24
    sample_rate: int  # of the original audio, Hz, below 2^24
    num_samples: int  # of the original audio, at sample_rate, 1..2^40 - 1
    id: str = ""  # name of the clip, 0..255 bytes of UTF-8

    def __post_init__(self) -> None:
        _check_text("model", self.model, min_bytes=1)
        _check_text("id", self.id, min_bytes=0)
        digits = self.weights_sha256
        if not isinstance(digits, str) or not 16 <= len(digits) <= 64 or set(digits) - HEX:
            raise UserError(
                f"weights_sha256: {digits!r}; give 16 to 64 hexadecimal digits, in lower case"
            )
        object.__setattr__(self, "weights_sha256", digits[:HASH_DIGITS])
        for name, largest in (("bits", 32), *((name, 256**size - 1) for name, size in NUMBERS)):
            number = _check_number(name, getattr(self, name), largest)
            object.__setattr__(self, name, number)

    @property
    def token_rate(self) -> float:
        """Tokens per second, Hz."""
        return self.sample_rate_input / self.samples_per_token

    @property
    def bitrate(self) -> float:
        """Bits per second of packed tokens, without the header."""
        return self.token_rate * self.bits

    @property
    def seconds(self) -> float:
        """Duration of the original audio."""
        return self.num_samples / self.sample_rate


class CodecRates(Protocol):
    """What a header says of a codec: `FocalCodec`, and `OnnxCodec` without torch, have it."""

    @property
    def bits_per_token(self) -> int:
        """Bits of a token."""

    @property
    def hop_length(self) -> int:
        """Samples of the input for each token."""

    @property
    def sample_rate_input(self) -> int:
        """Hz."""

    @property
    def sample_rate_output(self) -> int:
        """Hz."""


def header_for(
    codec: CodecRates,
    model_name: str,
    weights_sha256: str,
    sample_rate: int,
    num_samples: int,
    id: str = "",
) -> TokenHeader:
    """Make the header of a clip from the bits and rates of the codec that encodes it.

    `model_name` is the source of the codec, such as `lucadellalib/focalcodec_50hz`, and
    `focalcodec.hub.fingerprint` computes `weights_sha256`. `sample_rate` (Hz) and `num_samples`
    are those of the original audio. The errors are those of `TokenHeader`.
    """
    return TokenHeader(
        model=model_name,
        weights_sha256=weights_sha256,
        bits=codec.bits_per_token,
        samples_per_token=codec.hop_length,
        sample_rate_input=codec.sample_rate_input,
        sample_rate_output=codec.sample_rate_output,
        sample_rate=sample_rate,
        num_samples=num_samples,
        id=id,
    )


def check_model(
    header: TokenHeader, codec_name: str, weights_sha256: str, source: str = "tokens"
) -> None:
    """Check that a codec has the weights with which the tokens were made.

    Names are not compared, because a folder may contain a copy of a published model. `UserError`
    names the file as `source`.

    Example
    -------
    >>> header = TokenHeader("me/codec", "0123456789abcdef", 13, 320, 16000, 16000, 16000, 1000)
    >>> check_model(header, "other", "f" * 64, "a.fct")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: a.fct: tokens of me/codec (weights 0123456789abcdef), but the \
model is other (weights ffffffffffffffff); decode with me/codec (--model), or give \
any_model (--any_model)
    """
    weights = weights_sha256[:HASH_DIGITS]
    if weights != header.weights_sha256:
        theirs = header.model
        if header.model == codec_name:  # same name, other version: the package's codec was updated
            theirs = f"the {codec_name} with those weights"
        raise UserError(
            f"{source}: tokens of {header.model} (weights {header.weights_sha256}), but the model"
            f" is {codec_name} (weights {weights}); decode with {theirs} (--model), or give"
            " any_model (--any_model)"
        )


def header_bytes(header: TokenHeader, num_tokens: int, body: int) -> bytes:
    """Return the bytes of a header, CRC-32 included; `body` is the number of the body's kind."""
    streams = body in STREAM_BODIES
    if not streams:
        check_duration(header, num_tokens)
    model, id = header.model.encode(), header.id.encode()
    data = MAGIC + bytes([VERSION, body, header.bits, len(model), len(id)])
    data += bytes.fromhex(header.weights_sha256)
    for name, size in NUMBERS:
        value = 0 if streams and name == "num_samples" else getattr(header, name)
        data += value.to_bytes(size, "little")
    data += num_tokens.to_bytes(TOKENS_BYTES, "little") + model + id
    return data + crc32(data).to_bytes(CRC_BYTES, "little")


def read_header(reader: ByteReader) -> tuple[TokenHeader, int, int]:
    """Read a header and nothing after it: header, number of tokens, unchecked kind of the body."""
    magic = reader.read(len(MAGIC), "header")
    if magic != MAGIC:
        raise UserError(
            f"{reader.name}: not a token file, it begins with {magic!r}; give a .fct file"
        )
    version = reader.read(1, "header")[0]
    if version != VERSION:
        raise UserError(
            f"{reader.name}: version {version} of the format, but only {VERSION} can be read;"
            " update focalcodec, or copy the file again"
        )
    fixed = reader.read(FIXED_BYTES - len(MAGIC) - 1, "header")
    texts = reader.read(fixed[2] + fixed[3], "header")
    reader.check_crc("header")
    try:
        header, num_tokens = _parse(fixed, texts)
        if fixed[0] not in STREAM_BODIES:
            check_duration(header, num_tokens)
    except UserError as error:
        raise UserError(f"{reader.name}: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{reader.name}: model or id is not UTF-8, {texts!r}; encode the audio again"
        ) from error
    return header, num_tokens, fixed[0]


def check_duration(header: TokenHeader, num_tokens: int) -> None:
    """Check that there are tokens, and enough tokens for the length of the audio."""
    _check_number("num_tokens", num_tokens, 256**TOKENS_BYTES - 1)
    # A model may drop the end of the audio: allow two tokens and one second.
    longest = (num_tokens + 2) * header.samples_per_token + header.sample_rate_input
    if header.num_samples * header.sample_rate_input > longest * header.sample_rate:
        raise UserError(
            f"num_samples: {header.num_samples} at {header.sample_rate} Hz, but {num_tokens} tokens"
            f" last {num_tokens / header.token_rate:.2f} s; give the length of the encoded audio"
        )


def _parse(fixed: bytes, texts: bytes) -> tuple[TokenHeader, int]:
    """Header and number of tokens, from the fixed part after the version and the two strings."""
    body, bits, model_bytes, _ = fixed[:4]
    offset = 4 + HASH_DIGITS // 2
    weights, numbers = fixed[4:offset].hex(), {}
    for name, size in (*NUMBERS, ("num_tokens", TOKENS_BYTES)):
        numbers[name] = int.from_bytes(fixed[offset : offset + size], "little")
        offset += size
    num_tokens = numbers.pop("num_tokens")
    if body in STREAM_BODIES:
        if num_tokens or numbers["num_samples"]:
            raise UserError("corrupted, packets and a length; encode the audio again")
        numbers["num_samples"] = 1  # until the end is read
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


def _check_number(name: str, value: int, largest: int) -> int:
    """The number as an int, from one of Python or NumPy."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if not 1 <= number <= largest:
        raise UserError(f"{name}: {value!r}; it must be an integer in 1..{largest}")
    return number
