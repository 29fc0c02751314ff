"""Entropy-coded token files: exact, the same on all machines, never larger than packed ones."""

from __future__ import annotations

import io
import random
import sys
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.fct import TokenReader, TokenTable, read_toks, write_toks
from focalcodec.fct.binary import decode_toks, encode_toks
from focalcodec.fct.header import header_bytes
from tests.unit.fct.reference import EXAMPLE, decode, parse

pytest.importorskip("constriction")


def speech(num_tokens: int, seed: int = 0) -> Tensor:
    """Tokens whose bits keep their value three times out of four."""
    flip, tok, toks = random.Random(seed), 0, []
    for _ in range(num_tokens):
        tok ^= sum((flip.random() < 0.25) << place for place in range(13))
        toks.append(tok)
    return torch.tensor(toks)


def file_of(toks: Tensor, table: TokenTable | None = None) -> bytes:
    stream = io.BytesIO()
    write_toks(stream, toks, EXAMPLE, "smallest", table)
    return stream.getvalue()


def coded_file(body: bytes, num_tokens: int, kind: int = 1) -> bytes:
    """A file with this body and correct CRCs."""
    data = len(body).to_bytes(4, "little") + body
    return header_bytes(EXAMPLE, num_tokens, kind) + data + crc32(data).to_bytes(4, "little")


@given(st.data())
def test_coded_tokens_are_decoded(data: st.DataObject) -> None:
    bits = data.draw(st.integers(1, 32))
    ones = bytes(data.draw(st.lists(st.integers(1, 255), min_size=2 * bits, max_size=2 * bits)))
    toks = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=60))
    words = encode_toks(np.array(toks), TokenTable(bits, ones))
    blocks = list(decode_toks(words, len(toks), TokenTable(bits, ones)))
    assert np.concatenate(blocks).tolist() == toks
    assert decode(words, len(toks), bits, ones) == toks


@pytest.mark.parametrize("num_tokens", [1, 8192, 8193, 20000])
@pytest.mark.parametrize("tok", [0, 8191])
def test_the_same_token_everywhere(num_tokens: int, tok: int) -> None:
    toks = torch.full((num_tokens,), tok)
    data = file_of(toks)
    assert torch.equal(read_toks(io.BytesIO(data))[1], toks)
    assert len(data) < 120 + num_tokens * 0.08 / 8


@pytest.mark.parametrize("with_table", [False, True])
def test_long_files(with_table: bool) -> None:
    toks = speech(20000)
    table = TokenTable.from_toks([toks], 13) if with_table else None
    data = file_of(toks, table)
    with TokenReader(io.BytesIO(data), table) as reader:
        blocks = list(reader)
    assert reader.body == ("table" if with_table else "own")
    assert [len(block) for block in blocks] == [8192, 8192, 3616]
    assert torch.equal(torch.cat(blocks), toks)
    assert len(data) < 0.85 * 20000 * 13 / 8  # the entropy of a bit is 0.81
    assert parse(data, table).toks == toks.tolist()


@pytest.mark.parametrize("num_tokens", [1, 10, 50, 100, 200, 400, 800])
@pytest.mark.parametrize("kind", ["speech", "noise"])
def test_never_larger_than_packed(num_tokens: int, kind: str) -> None:
    toks = speech(num_tokens) if kind == "speech" else torch.randint(0, 8192, (num_tokens,))
    table = TokenTable.from_toks([speech(5000, seed=1)], 13)
    packed = io.BytesIO()
    write_toks(packed, toks, EXAMPLE)
    own, both = file_of(toks), file_of(toks, table)
    assert len(both) <= len(own) <= len(packed.getvalue())
    assert torch.equal(read_toks(io.BytesIO(both), table)[1], toks)
    if kind == "speech" and num_tokens >= 50:
        assert len(both) < len(own)
        assert both[4] == 2
    if kind == "noise":
        assert both == packed.getvalue()


def test_bytes_are_the_same_on_all_machines() -> None:
    """Fails with a version of the coder, or on a machine, that rounds in another way."""
    table = TokenTable.from_toks([speech(300)], 13)
    assert table.ones.hex() == "4537453f3a44443557304e483dc7c9c4c1b7b9c2bacfd3c7c6c4"
    files = [file_of(speech(300)), file_of(speech(300), table)]
    assert [sha256(data).hexdigest()[:16] for data in files] == [
        "d280c09218373e18",
        "3f8d530b7b4ad440",
    ]
    assert [list(parse(data, table).toks) for data in files] == 2 * [speech(300).tolist()]


def test_table_on_disk(tmp_path: Path) -> None:
    table = TokenTable.from_toks([speech(100), speech(50, seed=1)], 13)
    table.save(tmp_path / "a" / "speech.fcf")
    assert TokenTable.load(tmp_path / "a" / "speech.fcf") == table
    data = (tmp_path / "a" / "speech.fcf").read_bytes()
    assert len(data) == 39
    broken = tmp_path / "broken.fcf"
    for cut in range(len(data)):
        broken.write_bytes(data[:cut])
        with pytest.raises(UserError, match="broken.fcf: truncated|not a table"):
            TokenTable.load(broken)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        broken.write_bytes(flipped)
        with pytest.raises(UserError, match="^.*broken.fcf: .*$"):
            TokenTable.load(broken)
    broken.write_bytes(data + b"\0")
    with pytest.raises(UserError, match="broken.fcf: has bytes after its end at 39"):
        TokenTable.load(broken)
    with pytest.raises(UserError, match="none.fcf: can't be read"):
        TokenTable.load(tmp_path / "none.fcf")


def test_table_without_clips_is_one_half() -> None:
    assert set(TokenTable.from_toks([], 13).ones) == {128}


def test_wrong_tables_are_refused() -> None:
    toks = speech(300)
    table, other = (TokenTable.from_toks([speech(300, seed)], 13) for seed in (0, 1))
    data = file_of(toks, table)
    for given_table in (None, other, TokenTable(1, b"@@")):
        with pytest.raises(UserError, match=f"table of frequencies {table.id.hex()}, but .* given"):
            read_toks(io.BytesIO(data), given_table)
    with pytest.raises(UserError, match="table: of 1 bits per token, for tokens of 13"):
        file_of(toks, TokenTable(1, b"@@"))
    with pytest.raises(UserError, match="give a table of the same model and body='smallest'"):
        write_toks(io.BytesIO(), toks, EXAMPLE, table=table)
    with pytest.raises(UserError, match="body='best': not one of packed, smallest"):
        write_toks(io.BytesIO(), toks, EXAMPLE, body="best")  # type: ignore[arg-type]


def test_bodies_that_no_writer_writes() -> None:
    """Their CRC is correct, so other checks have to find the error."""
    toks = speech(300)
    ones = TokenTable.from_toks([toks], 13).ones
    words = encode_toks(toks.numpy(), TokenTable(13, ones))
    for body, num_tokens, message in (
        (ones + words + bytes(8), 300, "bytes are more than 300 tokens need"),
        (ones + words + bytes(3), 300, "are not whole words of 4"),
        (ones + words, 100, "bytes are more than 100 packed tokens take"),
        (ones + words, 10**6, "can't hold 1000000 tokens"),
        (ones + words, 2**32 - 1, "can't hold 4294967295 tokens"),
        (ones, 300, "0 bytes can't hold 300 tokens"),
        (ones[:20], 300, "frequencies: 20, .* give 2 per bit"),
        (b"", 300, "frequencies: 0, "),
        (ones[:-1] + b"\0" + words, 300, "frequencies: 26, the smallest 0"),
        (ones + b"\xff" * len(words), 300, "the range coder finds impossible data"),
    ):
        with pytest.raises(UserError, match=f"^token stream: corrupted, .*{message}"):
            read_toks(io.BytesIO(coded_file(body, num_tokens)))


def test_a_flipped_bit_is_found_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(file_of(speech(300)))
    data[-40] ^= 1
    monkeypatch.setattr("focalcodec.fct.decode_toks", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match="the CRC of its tokens"):
        read_toks(io.BytesIO(bytes(data)))


def test_without_the_range_coder(monkeypatch: pytest.MonkeyPatch) -> None:
    data = file_of(speech(300))
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(UserError, match="pip install constriction"):
        file_of(speech(300))
    with pytest.raises(UserError, match="pip install constriction"):
        read_toks(io.BytesIO(data))
    packed = io.BytesIO()
    write_toks(packed, speech(300), EXAMPLE)
    assert torch.equal(read_toks(io.BytesIO(packed.getvalue()))[1], speech(300))
