"""What a codec says of itself: rates, sizes and look-ahead, with quantizers of any kind."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from focalcodec import FocalCodec
from focalcodec.encoders.logmel import LogMel
from focalcodec.fct import header_for
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.nn.quantizer_base import QuantizerBase
from focalcodec.vocos import Vocos
from tests.unit.small_codecs import golden_codec, logmel_codec


class FiniteScalars(QuantizerBase):
    """Each of `dim` values is rounded to one of `levels`: no power of two, and no signs."""

    def __init__(self, dim: int = 3, levels: int = 5) -> None:
        super().__init__()
        self.config = {"dim": dim, "levels": levels}
        self.dim, self.levels, self.codebook_size = dim, levels, levels**dim
        self.register_buffer("basis", levels ** torch.arange(dim), persistent=False)

    def lats_to_codes(self, lats: Tensor) -> Tensor:
        half = (self.levels - 1) / 2
        return (lats.clamp(-1, 1) * half).round() / half

    def codes_to_toks(self, codes: Tensor) -> Tensor:
        half = (self.levels - 1) / 2
        return (((codes * half).round() + half).long() * self.basis).sum(-1)

    def toks_to_codes(self, toks: Tensor) -> Tensor:
        half = (self.levels - 1) / 2
        return (self.checked(toks)[..., None] // self.basis % self.levels - half) / half


def codec_with(quantizer: QuantizerBase) -> FocalCodec:
    dim = quantizer.dim
    encoder, decoder = FocalEncoder(80, dim, [8, 8], [2, 1]), FocalDecoder(dim, 80, [8, 8], [1, 2])
    return FocalCodec(LogMel(), encoder, quantizer, decoder, Vocos(80, 1, 8, 8)).eval()


@pytest.mark.parametrize(("down", "hop", "rate"), [((1, 1, 1), 320, 50.0), ((2, 2, 1), 1280, 12.5)])
def test_rates_and_sizes(down, hop, rate):
    codec = logmel_codec(down)
    assert (codec.hop_length, codec.frame_rate, codec.token_rate) == (hop, rate, rate)
    assert (codec.codebook_size, codec.vocab_size, codec.num_codebooks) == (8192, 8192, 1)
    assert (codec.bits_per_token, codec.bitrate) == (13, 13 * rate)
    assert codec.sample_rate == 16000 and codec.encode(torch.randn(1, 16000), 16000)[0].shape == (
        1,
        math.ceil(16000 / hop),
    )


def test_the_table_of_the_docs():
    """docs/python.md has the values of the codec of the package."""
    text = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    codec, seen = FocalCodec.from_pretrained("demo"), []
    for names, values in re.findall(r"^\| (`\w+`[`\w, ]*) \| ([^|]+) \|", text, re.MULTILINE):
        seen += zip(re.findall(r"\w+", names), values.split(", "), strict=True)
    assert len(seen) == 12
    for name, value in seen:
        assert str(getattr(codec, name)) == value, name


def test_another_quantizer():
    """The bitrate is log2 of the codebook; a packed token takes whole bits."""
    codec = codec_with(FiniteScalars())
    assert (codec.codebook_size, codec.vocab_size, codec.num_codebooks) == (125, 125, 1)
    assert codec.bitrate == 25 * math.log2(125) and codec.bits_per_token == 7
    toks, lengths = codec.encode(torch.randn(2, 16000), 16000)
    assert int(toks.max()) > 7 and torch.isfinite(codec.decode(toks, lengths)).all()
    header = header_for(codec, "mine", "0" * 64, 16000, 16000)
    assert (header.bits, header.samples_per_token, header.bitrate) == (7, 640, 175)
    codec.quantizer.num_codebooks = 4
    assert (codec.token_rate, codec.frame_rate, codec.num_codebooks) == (100.0, 25.0, 4)
    assert codec.bitrate == 100 * math.log2(125)


def test_without_parts():
    codec = copy.deepcopy(logmel_codec((2, 1, 1)))
    codec.encoder = codec.compressor = codec.quantizer = None
    assert (codec.hop_length, codec.codebook_size, codec.bitrate) == (640, 8192, 325.0)


def test_look_ahead_is_the_rest_of_a_chunk():
    """No sample after it changes a token or its audio, and some sample in it does."""
    codec = golden_codec("tiny_50hz_causal")
    hop, size = codec.hop_length, codec.chunk_size
    assert codec.lookahead == 1000 * (size - hop) / 16000 == codec.latency - 1000 * hop / 16000
    ahead = round(codec.lookahead * 16)
    sig = torch.randn(1, 6 * size, generator=torch.manual_seed(0))
    lats = codec.sig_to_lats(sig)
    rec_sig = codec.toks_to_sig(codec.sig_to_toks(sig))
    changed = sig.clone()
    changed[:, 2 * size :] += 1.0
    out = codec.sample_rate_output * 2 * size // codec.sample_rate_input
    first = 2 * size // hop
    torch.testing.assert_close(
        codec.sig_to_lats(changed)[:, :first], lats[:, :first], rtol=0, atol=1e-6
    )
    again = codec.toks_to_sig(codec.sig_to_toks(changed))
    torch.testing.assert_close(again[:, :out], rec_sig[:, :out], rtol=0, atol=1e-6)
    late = sig.clone()
    late[:, 2 * size + hop : 2 * size + hop + ahead] += 1.0
    assert (codec.sig_to_lats(late)[:, first] - lats[:, first]).abs().max() > 1e-3


def test_whole_signals_have_no_limit():
    assert logmel_codec().lookahead is None and golden_codec("tiny_50hz").lookahead is None
