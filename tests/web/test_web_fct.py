"""Token files in the page: Python's bytes, and one sentence for those that it can't read."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import torch

from focalcodec.fct import PacketWriter, TokenHeader, TokenTable, write_toks

HEADER = TokenHeader("mé/codec", "0123456789abcdef", 13, 320, 16000, 24000, 48000, 96000, id="a")
READ = """async (files) => {
  const { readFct, writeFct } = await import('./codec.js');
  return files.map((file) => {
    try {
      const tokens = readFct(Uint8Array.from(file), 'a.fct');
      const { header } = tokens;
      return { header, toks: Array.from(tokens.toks), written: Array.from(writeFct(tokens)) };
    } catch (error) {
      return { error: error.name + ': ' + error.message };
    }
  });
}"""


def file_of(toks: torch.Tensor, header: TokenHeader, *arguments: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    write_toks(stream, toks, header, *arguments, **options)
    return stream.getvalue()


def packets_of(toks: torch.Tensor, header: TokenHeader, end: bool) -> bytes:
    stream = io.BytesIO()
    writer = PacketWriter(stream, header)
    writer.write(toks[:40])
    writer.write(toks[40:])
    if end:
        writer.finish(header.num_samples)
    return stream.getvalue()


def test_token_files(page: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    toks = torch.randint(0, 8192, (100,), generator=generator)
    often = torch.tensor([5, 5, 5, 5, 8000] * 60)  # smaller when entropy-coded
    wide = torch.tensor([0, 2**32 - 1, 2**31, 77] * 25)
    good = [
        (toks, HEADER, file_of(toks, HEADER)),
        (wide, replace(HEADER, bits=32), file_of(wide, replace(HEADER, bits=32))),
        (toks % 2, replace(HEADER, bits=1), file_of(toks % 2, replace(HEADER, bits=1))),
        (often, HEADER, file_of(often, HEADER, "smallest")),
        (toks, HEADER, packets_of(toks, HEADER, end=True)),
        (toks, HEADER, packets_of(toks, HEADER, end=False)),
    ]
    assert good[3][2][4] == 1  # the body with its own frequencies
    packed = good[0][2]
    damaged = bytearray(packed)
    damaged[-9] ^= 1
    head = bytearray(packed)
    head[20] ^= 1
    table = TokenTable.from_toks([often], 13)
    bad = {
        packed[:-1]: "truncated in its tokens",
        packed[:30]: "truncated in its header",
        bytes(damaged): "corrupted: the CRC of its tokens differs",
        bytes(head): "corrupted: the CRC of its header differs",
        packed + b"x": "has bytes after its end",
        b"RIFF" + packed: "is not a token file: it does not begin with FCT",
        b"FCT\x07" + packed[4:]: "has version 7 of the format",
        file_of(
            often, HEADER, "runs"
        ): "has merged tokens or a voice, which this page can't decode",
        file_of(often[:60], HEADER, "smallest", table): "needs a table of frequencies",
    }
    files = [list(data) for *_, data in good] + [list(data) for data in bad]
    results = page.evaluate(READ, files)
    for result, (expected, header, _) in zip(results, good, strict=False):
        assert "error" not in result, result
        assert result["toks"] == expected.tolist()
        assert bytes(result["written"]) == file_of(expected, header)
    for result, sentence in zip(results[len(good) :], bad.values(), strict=True):
        assert result["error"].startswith("UserError: a.fct") and sentence in result["error"]
