"""The tables of docs/migration.md for EnCodec and Mimi: our lines and those of transformers run."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from focalcodec.audio import audio_info, write_audio
from focalcodec.cli.main import parse
from focalcodec.packages import ensure_torchaudio
from tests.unit.small_codecs import golden_codec

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
SIZES = {"EnCodec": (24000, 24000), "Mimi": (24000, 1920)}  # samples of x and of a chunk


def rows(title: str) -> dict[str, list[str]]:
    """Cells of a table by their task."""
    text = PAGE.read_text(encoding="utf-8").partition(f"## From {title}\n")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert {len(row) for row in cells} == {4}
    return {task: codes for task, *codes in cells[1:]}


def pieces(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def run(code: str, names: dict[str, Any]) -> None:
    if code.startswith("focalcodec "):
        assert parse(code.split()[1:]).command == code.split()[1]
    else:
        exec(compile(code, PAGE.name, "exec"), names)


def ours(name: str) -> Any:
    return golden_codec("tiny_50hz_causal" if "causal" in name else "tiny_50hz")


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the lines need: a signal of 1 s, a mask, a recording, and loading without the hub."""
    monkeypatch.chdir(tmp_path)
    x = 0.1 * torch.randn(2, 1, 24000, generator=torch.manual_seed(0))
    mask = torch.ones(2, 24000, dtype=torch.bool)
    write_audio("my.wav", x[0, 0], 24000)
    return {"x": x, "mask": mask, "FocalCodec": SimpleNamespace(from_pretrained=ours)}


@pytest.mark.parametrize("title", ["EnCodec", "Mimi"])
def test_our_lines(title: str, names: dict[str, Any]) -> None:
    done = []
    for task, (_, _, here) in rows(title).items():
        if task.startswith("encode a chunk"):
            names["chunk"] = names["x"][:1, 0, : names["codec"].chunk_size]
        for code in pieces(here):
            if code not in ("chunk", "states"):
                run(code, names)
                done.append(code)
        if task == "decode":
            assert names["sig"].shape == (2, 24000)
        if task == "a padded batch":
            rate = names["codec"].frame_rate
            assert names["lengths"].tolist() == [len(names["toks"][0]), names["lengths"][1]]
            assert int(names["lengths"][1]) <= rate / 2 + 1
    assert len(done) >= 12
    if title == "EnCodec":
        assert audio_info("out.wav").seconds == 1.0 and Path("my.fct").is_file()


def test_our_chunks_are_the_whole(names: dict[str, Any]) -> None:
    """The lines of the table, for each chunk of a stream, give the tokens of the whole signal."""
    table = rows("Mimi")
    load, start, encode, decode = (
        pieces(table[task][2])[0]
        for task in ("load", "first chunk", "encode a chunk", "decode a chunk")
    )
    run(load, names)
    run(start, names)
    codec = names["codec"]
    sig = torch.randn(1, 5 * codec.chunk_size, generator=torch.manual_seed(1))
    toks, audio = [], []
    for chunk in sig.split(codec.chunk_size, dim=1):
        names["chunk"] = chunk
        run(encode, names)
        run(decode, names)
        toks.append(names["toks"])
        audio.append(names["rec_sig"])
    assert torch.equal(torch.cat(toks, 1), codec.sig_to_toks(sig))
    whole = codec.toks_to_sig(torch.cat(toks, 1))
    torch.testing.assert_close(torch.cat(audio, 1), whole, rtol=0, atol=1e-5)


def small_model(title: str) -> Any:
    """Random weights in the classes of transformers."""
    ensure_torchaudio()
    import transformers as tf

    torch.manual_seed(0)
    if title == "EnCodec":
        sizes = {"num_filters": 4, "hidden_size": 16, "codebook_size": 64, "num_lstm_layers": 1}
        return tf.EncodecModel(tf.EncodecConfig(target_bandwidths=[1.5, 3.0], **sizes)).eval()
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 1}
    sizes = {"hidden_size": 32, "num_filters": 4, "num_quantizers": 8, "codebook_size": 64}
    sizes |= {"codebook_dim": 16, "vector_quantization_hidden_dimension": 16}
    sizes |= {"upsample_groups": 32, "intermediate_size": 32}
    return tf.MimiModel(tf.MimiConfig(**sizes, **heads)).eval()


@pytest.mark.parametrize("title", ["EnCodec", "Mimi"])
def test_lines_of_transformers(title: str, names: dict[str, Any]) -> None:
    """What the table says of transformers is true in the installed version."""
    names["model"] = small_model(title)
    done = 0
    with torch.no_grad():
        for task, (theirs, _, _) in rows(title).items():
            names["chunk"] = names["x"][:1, :, :1920]
            for code in pieces(theirs):
                # not the first line, which downloads, and no single names and keywords
                if "from_pretrained" not in code and re.search(r"[(.]|, ", code):
                    run(code, names)
                    done += 1
            if task == "decode":
                assert names["sig"].shape[:2] == (2, 1)
        codes, model, mask = names["codes"], names["model"], names["mask"].clone()
        mask[1, 12000:] = False
        options = {"bandwidth": 1.5} if title == "EnCodec" else {"num_quantizers": 8}
        masked = model.encode(names["x"], mask[:, None], **options).audio_codes
        assert torch.equal(masked, codes), "the mask does not change the tokens"
    assert done >= 8
