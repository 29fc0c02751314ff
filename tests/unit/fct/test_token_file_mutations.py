"""100,000 damaged token files: each is a one-line error, or gives the tokens of its bytes.

Half of the mutations do not correct the CRCs, like damage by disks, pipes and editors: then only
an unchanged file may be readable. The others correct the CRCs, so that every later check is
reached: then a second reader, written from the documentation, has to read the same header and
tokens, and writing the tokens of a packed file has to give the same bytes.
"""

from __future__ import annotations

import io
import unicodedata
from collections import Counter
from random import Random
from zlib import crc32

import pytest
import torch

from focalcodec.errors import UserError
from focalcodec.fct import BODIES, TokenHeader, TokenTable, read_toks, write_toks
from tests.unit.fct.reference import EXAMPLE, parse

MUTATIONS = 100_000
FIELDS = {3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 8, 16: 2, 18: 3, 21: 3, 24: 3, 27: 5, 32: 4}


def seeds(body: str) -> tuple[list[bytes], TokenTable | None]:
    """Small valid files."""
    random, table = Random(1), None
    if body == "table":
        table = TokenTable.from_toks([torch.tensor([5, 6, 7] * 20)], 13)
    files = []
    for num_tokens in (1, 8, 21, 40):
        toks = [random.choice([5, 6, 7, random.randrange(8192)]) for _ in range(num_tokens)]
        if body != "packed":
            toks = [random.choice([5, 6]) for _ in range(40 + num_tokens)]
        header = TokenHeader(
            "m", "ab" * 8, 13, 320, 16000, 24000, 8000, 100, "é" * (num_tokens % 3)
        )
        stream = io.BytesIO()
        kind = {"packed": "packed", "voiced": "runs"}.get(body, "smallest")
        given = {"voice": torch.tensor([7, 4095])} if body == "voiced" and num_tokens > 8 else {}
        about = EXAMPLE if num_tokens == 8 else header
        write_toks(stream, torch.tensor(toks), about, kind, table, **given)  # type: ignore
        files.append(stream.getvalue())
    assert {data[4] for data in files} == {BODIES.index(body)}
    return files, table


def mutate(random: Random, files: list[bytes]) -> bytearray:
    """One to three changes of a file."""
    data = bytearray(random.choice(files))
    for _ in range(random.choice([1, 1, 2, 3])):
        place = random.randrange(len(data) + 1)
        kind = random.randrange(7)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << random.randrange(8)
        elif kind == 1:
            del data[place:]
        elif kind == 2:
            data[place:place] = random.randbytes(random.choice([1, 1, 2, 4, 20]))
        elif kind == 3:
            del data[place : place + random.choice([1, 1, 2, 4, 20])]
        elif kind == 4:
            other = random.choice(files)
            data[place:] = other[random.choice([place, random.randrange(len(other))]) :]
        elif kind == 5 and place < len(data):
            data[place] = random.choice([0, 1, 2, 127, 128, 255])
        else:
            start, size = random.choice(list(FIELDS.items()))
            value = random.choice([bytes(size), b"\xff" * size, random.randbytes(size)])
            data[start : start + size] = value
    return data


def correct_crcs(data: bytearray) -> None:
    """Write the CRCs of the header, and of a body that ends with the file."""
    if len(data) < 40:
        return
    end = 36 + data[6] + data[7]
    if end + 8 > len(data):
        return
    data[end : end + 4] = crc32(data[:end]).to_bytes(4, "little")
    data[-4:] = crc32(data[end + 4 : -4]).to_bytes(4, "little")


def outcome(data: bytes, files: list[bytes], table: TokenTable | None, sealed: bool) -> str:
    """Read a file, check the result, and return a word for it."""
    try:
        header, toks = read_toks(io.BytesIO(data), table)
    except UserError as error:
        message = str(error)
        assert message.startswith("token stream: ")
        assert message.isprintable() and len(message) < 4000
        assert data not in files
        return " ".join(word for word in message.split()[2:6] if word.isalpha())
    if not sealed:
        assert data in files
        return "unchanged"
    meant = parse(data, table)
    assert meant.header == header
    assert meant.toks == toks.tolist()
    assert header.seconds <= 1 + (len(toks) + 2) / header.token_rate + 1e-6
    assert not any(unicodedata.category(letter) == "Cc" for letter in header.model + header.id)
    if meant.body == 0:
        again = io.BytesIO()
        write_toks(again, toks, header)
        assert again.getvalue() == data
    return "read"


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("packed", MUTATIONS // 2),
        ("own", MUTATIONS // 4),
        ("table", MUTATIONS // 4),
        ("voiced", MUTATIONS // 10),
    ],
)
def test_mutated_files(body: str, count: int) -> None:
    if body in ("own", "table"):
        pytest.importorskip("constriction")
    files, table = seeds(body)
    random, outcomes = Random(2), Counter[str]()
    for turn in range(count):
        data, sealed = mutate(random, files), turn % 2 == 1
        if sealed:
            correct_crcs(data)
        outcomes[outcome(bytes(data), files, table, sealed)] += 1
    assert outcomes.total() == count
    # Mutations that do not reach the checks would prove nothing.
    assert outcomes["read"] > count // 20
    assert len(outcomes) > 12
