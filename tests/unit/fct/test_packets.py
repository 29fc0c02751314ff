"""Token files that are written while their tokens arrive."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from focalcodec.cli.connection import read_connection
from focalcodec.errors import UserError
from focalcodec.fct import PacketWriter, TokenHeader, TokenReader, read_toks
from focalcodec.fct.packets import MOST

DOCS = Path(__file__).parents[3] / "docs"
HEADER = TokenHeader("me/codec", "0123456789abcdef", 13, 320, 16000, 24000, 48000, 1, id="talk")


def written(packets, num_samples=None, header=HEADER, repeat=0):
    """Bytes of a file with these packets, each a list of tokens."""
    file = io.BytesIO()
    writer = PacketWriter(file, header, repeat)
    for toks in packets:
        writer.write(torch.tensor(toks, dtype=torch.int64))
    if num_samples is not None:
        writer.finish(num_samples)
    assert writer.num_bytes == len(file.getvalue())
    return file.getvalue()


@given(
    bits=st.integers(1, 32),
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any),
    ended=st.booleans(),
)
def test_packets_are_read_back(bits, sizes, ended):
    packets = [[(7 * i + size) % 2**bits for i in range(size)] for size in sizes]
    total = sum(sizes)
    samples = total * 320 * 3 - 5 if ended else None
    header, toks = read_toks(io.BytesIO(written(packets, samples, replace(HEADER, bits=bits))))
    assert toks.tolist() == sum(packets, [])
    assert header == replace(HEADER, bits=bits, num_samples=samples or total * 960)


@given(
    bits=st.integers(1, 32),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    lost=st.lists(st.booleans(), min_size=12, max_size=12),
    repeat=st.integers(1, 3),
)
def test_repeats_are_read_once_and_repair_as_many_lost_packets(bits, sizes, lost, repeat):
    packets = [[(5 * i + size) % 2**bits for i in range(size)] for size in sizes]
    header, toks = replace(HEADER, bits=bits), sum(packets, [])
    data = written(packets, 320 * len(toks), header, repeat)
    assert read_toks(io.BytesIO(data))[1].tolist() == toks

    parts, end = [], len(written([], header=header))
    for number, size in enumerate(sizes):
        count = size + sum(sizes[max(0, number - repeat) : number])
        parts.append(data[end : (end := end + 4 + 2 + (count * bits + 7) // 8 + 4)])
    kept = [part for part, is_lost in zip(parts, lost, strict=False) if not is_lost]
    stream = io.BytesIO(data[: len(written([], header=header))] + b"".join(kept) + data[end:])
    received = [*read_connection(stream, "the sender")[1]]
    found, place = [], 0
    for new, missing, _ in received:
        place += missing
        found += zip(range(place, place + len(new)), new.tolist(), strict=True)
        place += len(new)
    assert received[-1].num_samples == 320 * len(toks) and place == len(toks)
    # a token is there if its packet, or one of the next `repeat` ones, was not lost
    owner = [number for number, size in enumerate(sizes) for _ in range(size)]
    there = [not all(lost[n : min(n + repeat + 1, len(sizes))]) for n in owner]
    assert found == [
        (at, tok) for at, (tok, yes) in enumerate(zip(toks, there, strict=True)) if yes
    ]


def test_repeats_are_in_range_and_another_kind_of_body():
    with pytest.raises(UserError, match=r"repeat: 9; give a number of packets, 0\.\.8"):
        PacketWriter(io.BytesIO(), HEADER, repeat=9)
    data = written([[1, 2], [3]], 900, repeat=1)
    assert data[4] == 5 and written([], 900)[4] == 3
    assert TokenReader(io.BytesIO(data)).body == "repeated packets"
    plain = bytearray(written([[1, 2]]))
    with pytest.raises(UserError, match="begins at token 0, but 2 were read"):
        read_toks(io.BytesIO(bytes(plain) + data[-(4 + 2 + 5 + 4) - (4 + 2 + 5 + 4) : -15]))


def test_a_killed_writer_leaves_all_whole_packets():
    data = written([[1, 2, 3, 4]] * 5)
    head, packet = len(written([])), 4 + 2 + 7 + 4
    assert len(data) == head + 5 * packet
    for end in range(head, len(data) + 1):
        whole = (end - head) // packet
        if whole:
            header, toks = read_toks(io.BytesIO(data[:end]))
            assert toks.tolist() == [1, 2, 3, 4] * whole
            assert header.num_samples == 4 * whole * 960
        else:
            with pytest.raises(UserError, match="no tokens"):
                read_toks(io.BytesIO(data[:end]))


def test_many_tokens_at_once_and_blocks():
    toks = torch.arange(MOST + 3000) % 8192
    file = io.BytesIO()
    writer = PacketWriter(file, HEADER)
    writer.write(toks)
    writer.finish(1000)
    file.seek(0)
    with TokenReader(file) as reader:
        blocks = list(reader)
        assert reader.body == "packets" and reader.num_tokens == len(toks)
    assert max(map(len, blocks)) == 8192 and torch.equal(torch.cat(blocks), toks)


def test_damage_is_found():
    data = written([[1, 2, 3]] * 4, 11000)
    head, packet = len(written([])), 4 + 2 + 5 + 4
    for place in range(head, len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 4
        try:
            _, toks = read_toks(io.BytesIO(damaged))
        except UserError as error:
            assert "\n" not in str(error)
        else:  # a count that is too large: the rest looks like the packet of a killed writer
            assert toks.tolist() == [1, 2, 3] * ((place - head) // packet)
    missing = data[: head + packet] + data[head + 2 * packet :]
    with pytest.raises(UserError, match="begins at token 6, but 3 were read"):
        read_toks(io.BytesIO(missing))
    with pytest.raises(UserError, match="after its end"):
        read_toks(io.BytesIO(data + b"x"))
    with pytest.raises(UserError, match="num_samples"):
        read_toks(io.BytesIO(written([[1, 2]], 10**7)))
    with pytest.raises(UserError, match=r"8192\.\.8192"):
        written([[8192]])


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    program = tmp_path_factory.mktemp("c") / "read_fct"
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, "-o", program, DOCS / "read_fct.c"], check=True)
    return program


@pytest.mark.parametrize("bits", [1, 13, 32])
@pytest.mark.parametrize("repeat", [0, 1])
@pytest.mark.parametrize("end", ["whole", "no end", "half a packet"])
def test_the_reader_in_c_reads_packets(reader, bits, end, repeat):
    header, samples = replace(HEADER, bits=bits), 2000 if end == "whole" else None
    data = written([[0, 1, 2 % 2**bits], [2**bits - 1]], samples, header, repeat)
    data = data[:-3] if end == "half a packet" else data
    done = subprocess.run([reader], input=data, capture_output=True, check=True, timeout=60)
    lines = [line for line in done.stdout.decode().splitlines() if not line.startswith("#")]
    assert [int(line) for line in lines] == read_toks(io.BytesIO(data))[1].tolist()


def test_the_reader_in_c_finds_damage(reader):
    data = bytearray(written([[1, 2, 3]] * 4, 3000))
    data[-20] ^= 1
    done = subprocess.run([reader], input=bytes(data), capture_output=True, check=False, timeout=60)
    assert done.returncode == 1 and b"corrupted" in done.stderr
