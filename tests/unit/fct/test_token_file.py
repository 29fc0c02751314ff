"""Token files: written tokens are read back, also from a stream; bad input is a one-line error."""

from __future__ import annotations

import io
import os
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.fct import (
    TokenHeader,
    TokenReader,
    check_model,
    header_for,
    read_toks,
    write_toks,
)
from focalcodec.fct.header import HEADER_BYTES, header_bytes
from tests.unit.fct.reference import EXAMPLE, parse
from tests.unit.small_codecs import logmel_codec

PUBLISHED = [
    f"lucadellalib/focalcodec_{name}"
    for name in ("50hz", "25hz", "12_5hz", "50hz_65k_causal", "50hz_4k_causal", "50hz_2k_causal")
]
TOKS = torch.tensor([1, 2, 8191])


def file_of(toks: Tensor, header: TokenHeader = EXAMPLE) -> bytes:
    stream = io.BytesIO()
    assert write_toks(stream, toks, header) == len(stream.getvalue())
    return stream.getvalue()


class Trickle(io.RawIOBase):
    """A pipe that returns at most two bytes at a time and can't seek."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data, self.rest = self.rest[: min(size, 2)], self.rest[min(size, 2) :]
        return data


@st.composite
def headers(draw: st.DrawFn, bits: int) -> TokenHeader:
    text = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=60)
    rate = st.integers(1, 2**24 - 1)
    samples_per_token, rate_input = draw(st.integers(1, 2**16 - 1)), draw(rate)
    sample_rate = draw(rate)
    return TokenHeader(
        model=draw(text.filter(bool)),
        weights_sha256=draw(st.text("0123456789abcdef", min_size=16, max_size=64)),
        bits=bits,
        samples_per_token=samples_per_token,
        sample_rate_input=rate_input,
        sample_rate_output=draw(rate),
        sample_rate=sample_rate,
        num_samples=draw(st.integers(1, max(1, sample_rate * samples_per_token // rate_input))),
        id=draw(text),
    )


@given(st.data())
def test_written_tokens_are_read_back(data: st.DataObject) -> None:
    bits = data.draw(st.integers(1, 32))
    toks = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=50))
    header = data.draw(headers(bits))
    written = file_of(torch.tensor(toks), header)
    found, again = read_toks(io.BytesIO(written))
    assert found == header
    assert again.dtype == torch.int64
    assert again.tolist() == toks
    reference = parse(written)
    assert reference.header == header
    assert reference.toks == toks
    overhead = 36 + len(header.model.encode()) + len(header.id.encode()) + 4 + 4
    assert len(written) == overhead + -(-len(toks) * bits // 8)


@pytest.mark.parametrize("name", PUBLISHED)
def test_overhead_is_under_100_bytes(name: str) -> None:
    header = replace(EXAMPLE, model=name, id="1272-128104-0000")
    overhead = len(file_of(TOKS, header)) - 5
    assert overhead == len(header_bytes(header, 3, 0)) + 4 < 100


def test_longest_header() -> None:
    header = replace(EXAMPLE, model="é" * 127 + "m", id="i" * 255)
    assert len(header_bytes(header, 3, 0)) == HEADER_BYTES == 550
    assert read_toks(io.BytesIO(file_of(TOKS, header)))[0] == header


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("num_tokens", [1, 8191, 8192, 8193, 20000])
def test_blocks(dtype: torch.dtype, num_tokens: int) -> None:
    toks = torch.randint(0, 128, (num_tokens,), dtype=dtype)
    with TokenReader(Trickle(file_of(toks))) as reader:
        blocks = list(reader)
    assert max(len(block) for block in blocks) <= 8192
    assert torch.equal(torch.cat(blocks), toks.long())


def test_stream_yields_tokens_as_they_arrive() -> None:
    """The header and the first block are read while the writer waits."""
    toks = torch.randint(0, 8192, (20000,))
    data = file_of(toks)
    begin = 75 + 8192 * 13 // 8
    source, target = os.pipe()
    go_on = threading.Event()

    def write() -> None:
        with open(target, "wb") as stream:
            stream.write(data[:begin])
            stream.flush()
            go_on.wait(timeout=60)
            stream.write(data[begin:])

    writer = threading.Thread(target=write)
    writer.start()
    with open(source, "rb") as stream, TokenReader(stream) as reader:
        assert reader.header == EXAMPLE
        assert (reader.num_tokens, reader.num_bytes) == (20000, 71)
        blocks: Iterator[Tensor] = iter(reader)
        first = next(blocks)
        go_on.set()
        assert torch.equal(torch.cat([first, *blocks]), toks)
        assert reader.num_bytes == len(data)
        assert reader.bits_per_second == pytest.approx(8 * len(data) / 0.06)
    writer.join()


def test_an_hour_in_bounded_memory(tmp_path: Path) -> None:
    toks = torch.randint(0, 8192, (180_000,))
    tracemalloc.start()
    write_toks(tmp_path / "a.fct", toks, EXAMPLE)
    with TokenReader(tmp_path / "a.fct") as reader:
        found = sum(len(block) for block in reader)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == 180_000
    assert peak < 2_000_000
    assert (tmp_path / "a.fct").stat().st_size == 180_000 * 13 // 8 + 71 + 4


def test_a_header_with_too_many_tokens_takes_no_memory() -> None:
    head = header_bytes(EXAMPLE, 2**32 - 1, body=0)
    tracemalloc.start()
    with pytest.raises(UserError, match="truncated in its tokens, after 171 bytes"):
        read_toks(io.BytesIO(head + bytes(100)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_path_is_never_half_written(tmp_path: Path) -> None:
    path = tmp_path / "tree" / "a.fct"
    write_toks(path, TOKS, EXAMPLE)
    with pytest.raises(UserError, match="toks: 1..8192; 13 bits hold 0..8191"):
        write_toks(path, torch.tensor([1, 8192]), EXAMPLE)
    assert read_toks(path)[1].tolist() == TOKS.tolist()
    assert [file.name for file in path.parent.iterdir()] == ["a.fct"]


BAD_TOKS = {
    "shape": (torch.ones(1, 3, dtype=torch.int64), r"toks: shape \(1, 3\); give \(tokens,\)"),
    "empty": (torch.ones(0, dtype=torch.int64), "not empty"),
    "float": (torch.ones(3), "toks: torch.float32; give integers"),
    "bool": (torch.ones(3, dtype=torch.bool), "toks: torch.bool; give integers"),
    "negative": (torch.tensor([-1, 5]), "toks: -1..5; 13 bits hold 0..8191"),
}


@pytest.mark.parametrize("name", BAD_TOKS)
def test_bad_toks_are_refused(name: str) -> None:
    toks, message = BAD_TOKS[name]
    with pytest.raises(UserError, match=message):
        write_toks(io.BytesIO(), toks, EXAMPLE)


BAD_FIELDS = {
    "model": ["", "m" * 256, "a\nb", "\ud800", None],
    "id": ["i" * 256, "\0", "\x7f", "\u2028", 7],
    "weights_sha256": ["0123", "g" * 16, "A" * 16, "0" * 65, b"0" * 16],
    "bits": [0, 33, 13.0, True],
    "samples_per_token": [0, 65536],
    "sample_rate_input": [0, 2**24],
    "sample_rate_output": [0, 2**24],
    "sample_rate": [-1, 2**24, "16000"],
    "num_samples": [0, 2**40],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n in BAD_FIELDS for v in BAD_FIELDS[n]])
def test_bad_fields_are_refused(name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^{name}: ") as error:
        replace(EXAMPLE, **{name: value})
    assert "\n" not in str(error.value)


def test_audio_longer_than_its_tokens_is_refused() -> None:
    longest = (3 * 320 + 2 * 320 + 16000) * 3  # two tokens and a second more, at 48 kHz
    file_of(TOKS, replace(EXAMPLE, num_samples=longest))
    with pytest.raises(UserError, match="52801 at 48000 Hz, but 3 tokens last 0.06 s"):
        file_of(TOKS, replace(EXAMPLE, num_samples=longest + 1))


def test_files_that_are_not_token_files(tmp_path: Path) -> None:
    empty = tmp_path / "empty.fct"
    empty.touch()
    text = tmp_path / "text.fct"
    text.write_bytes(file_of(TOKS))
    for source, message in (
        (empty, "empty.fct: truncated in its header, after 0 bytes"),
        (tmp_path / "none.fct", "none.fct: can't be read .*check the path"),
        (tmp_path, "can't be read .*check the path"),
        (io.BytesIO(b"RIFF"), "token stream: not a token file, it begins with b'RIF'"),
        (io.StringIO("FCT"), "token stream: gives str, not bytes; open it in binary mode"),
        (
            io.BytesIO(b"FCT\x02"),
            "version 2 of the format, but only 1 can be read; update",
        ),
        (io.BytesIO(header_bytes(EXAMPLE, 3, body=6)), "body 6 is not one of 0..5; update"),
        (io.BytesIO(2 * file_of(TOKS)), "bytes after its end at 80; give one token file"),
    ):
        with pytest.raises(UserError, match=message):
            read_toks(source)  # type: ignore[arg-type]
    with text.open() as stream, pytest.raises(UserError, match="text.fct: .* binary mode"):
        read_toks(stream)  # type: ignore[arg-type]


def test_a_reader_reads_once() -> None:
    with TokenReader(io.BytesIO(file_of(TOKS))) as reader:
        list(reader)
        with pytest.raises(UserError, match="was read already; open it again"):
            list(reader)


def test_other_weights_are_refused() -> None:
    check_model(EXAMPLE, "a copy in a folder", "0123456789abcdef" + "7" * 48)
    with pytest.raises(UserError) as error:
        check_model(EXAMPLE, "mine", "1" + "0123456789abcdef" * 3, "a.fct")
    for part in ("a.fct", EXAMPLE.model, "mine", "(--model)", "--any_model"):
        assert part in str(error.value)


def test_header_of_a_codec() -> None:
    codec = logmel_codec((2, 1, 2))
    header = header_for(codec, "m", "ab" * 32, sample_rate=44100, num_samples=88200, id="i")
    assert (header.bits, header.seconds, header.weights_sha256) == (13, 2.0, "ab" * 8)
    assert (header.token_rate, header.bitrate) == (codec.token_rate, codec.bitrate)
    assert (header.sample_rate_input, header.sample_rate_output) == (16000, 16000)
