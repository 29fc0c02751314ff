"""Any codec in the corpus tokenizer: streams side by side, and the vectors of the tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from focalcodec.audio import read_audio
from focalcodec.coders import load_coder, parse_spec
from focalcodec.errors import UserError
from focalcodec.tokenize import TokenStore, TokenVocabulary
from focalcodec.tokenize.parts import FocalTokenizer, HubTokenizer, as_tokenizer
from focalcodec.tokenize.plan import ModelIdentity, TokenizeOptions, TokenizePlan
from focalcodec.tokenize.run import tokenize_corpus
from focalcodec.tokenize.sources import open_corpus
from tests.unit.small_codecs import logmel_codec
from tests.unit.tokenize.corpora import BROKEN, SECONDS, write_corpus


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EnCodec, DAC and Mimi with random weights."""
    from focalcodec.packages import ensure_torchaudio

    ensure_torchaudio()
    import transformers as tf

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    encodec = tf.EncodecConfig(
        num_filters=4, hidden_size=16, codebook_size=64, num_lstm_layers=1,
        target_bandwidths=[0.9, 1.8],
    )  # fmt: skip
    dac = tf.DacConfig(
        encoder_hidden_size=4, decoder_hidden_size=32, n_codebooks=3, codebook_size=64
    )
    mimi = tf.MimiConfig(
        hidden_size=32, num_filters=4, num_quantizers=4, codebook_size=64, codebook_dim=16,
        vector_quantization_hidden_dimension=16, upsample_groups=32, num_hidden_layers=1,
        intermediate_size=32, num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    for name, model in {
        "encodec": tf.EncodecModel(encodec),
        "dac": tf.DacModel(dac),
        "mimi": tf.MimiModel(mimi),
    }.items():
        for buffer_name, buffer in model.named_buffers():
            if "embed" in buffer_name and buffer.is_floating_point():
                torch.nn.init.normal_(buffer)
        model.save_pretrained(folder / name)
    return folder


def tokenizer_of(text: str, models: Path) -> HubTokenizer:
    kind = text.partition(":")[0]
    coder = load_coder(parse_spec(f"{text}@{models / kind}"), torch.device("cpu"))
    tokenizer = as_tokenizer(coder)  # type: ignore[arg-type]
    assert isinstance(tokenizer, HubTokenizer)
    return tokenizer


@pytest.mark.parametrize(("text", "streams"), [("encodec:0.9", 2), ("dac", 3), ("mimi:3", 3)])
def test_corpus_of_another_codec(text: str, streams: int, models: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(text, models)
    source = open_corpus(str(write_corpus(tmp_path)))
    model = ModelIdentity(text, tokenizer.coder.weights_sha256, streams=streams)
    plan = TokenizePlan(source, model, TokenizeOptions(window_seconds=2.5), TokenVocabulary(64))
    meta = tokenize_corpus(tokenizer.coder, plan, tmp_path / "toks")
    assert meta is not None and meta["streams"] == streams and meta["failed"] == len(BROKEN)
    store = TokenStore(tmp_path / "toks")
    assert len(store) == len(SECONDS)
    for index, clip_id in enumerate(store.ids):
        (clip,) = [clip for clip in source.clips if clip.id == clip_id]
        sig = read_audio(source.audio(clip), tokenizer.sample_rate_input, channels="mix")
        expected = tokenizer.coder.encode_clip(sig)[0].T
        assert store[index].shape == expected.shape == (len(expected), streams)
        assert torch.equal(store[index], expected)


@pytest.mark.parametrize(("text", "streams"), [("encodec:0.9", 2), ("dac:2", 2), ("mimi:2", 2)])
def test_codes_are_the_vectors_of_the_decoder(text: str, streams: int, models: Path) -> None:
    tokenizer = tokenizer_of(text, models)
    codes = tokenizer.codes()
    assert codes is not None and [len(table) for table in codes] == [64] * streams
    assert all(not torch.equal(codes[0], table) for table in codes[1:])
    quantizer = tokenizer.coder.model.quantizer
    toks = torch.arange(6)
    if text.startswith("encodec"):
        expected = quantizer.layers[1].codebook.decode(toks[None])[0]
    elif text.startswith("dac"):
        expected = quantizer.quantizers[1].codebook(toks)
    else:
        expected = quantizer.acoustic_residual_vector_quantizer.layers[0].codebook.decode(toks)
    torch.testing.assert_close(codes[1][toks], expected)


def test_focalcodec_has_one_stream_and_its_codebook() -> None:
    codec = logmel_codec()
    tokenizer = as_tokenizer(codec)
    assert isinstance(tokenizer, FocalTokenizer) and tokenizer.streams == 1
    assert as_tokenizer(tokenizer) is tokenizer
    (codes,) = tokenizer.codes()
    assert torch.equal(codes, codec.codebook)


def test_plan_with_another_number_of_streams_is_an_error(models: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_of("dac", models)
    source = open_corpus(str(write_corpus(tmp_path)))
    plan = TokenizePlan(source, ModelIdentity("dac", "00"), TokenizeOptions(), TokenVocabulary(64))
    with pytest.raises(UserError, match="streams=1, but the codec has 3"):
        tokenize_corpus(tokenizer, plan, tmp_path / "toks")


def test_codec_without_tokens_is_an_error() -> None:
    with pytest.raises(UserError, match="no tokens"):
        as_tokenizer(load_coder(parse_spec("original"), torch.device("cpu")))  # type: ignore[arg-type]
