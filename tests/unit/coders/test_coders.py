"""Output of each coder's encode and decode, alone and in a batch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from focalcodec.coders import ffmpeg, load_coder, parse_spec, parse_specs
from focalcodec.coders.coder import Coder
from focalcodec.errors import UserError
from tests.unit.evaluation.runs import CODEC

CPU = torch.device("cpu")


def load(text: str, window_seconds: float = 60.0) -> Coder:
    return load_coder(parse_spec(text), CPU, window_seconds)


def batch(*seconds: float) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    lengths = torch.tensor([round(16000 * s) for s in seconds])
    sig = 0.1 * torch.randn(len(lengths), int(lengths.max()))
    return sig * (torch.arange(sig.shape[1]) < lengths[:, None]), lengths


def check(coder: Coder) -> None:
    """A padded batch gives the same as its clips alone, with their lengths."""
    sig, lengths = batch(0.5, 0.333)
    both = coder.code(sig, 16000, lengths)
    expected = [round(n * coder.sample_rate_output / 16000) for n in lengths.tolist()]
    assert both.lengths.tolist() == expected
    for index, end in enumerate(lengths.tolist()):
        alone = coder.code(sig[index : index + 1, :end], 16000, lengths[index : index + 1])
        kept = both.rec_sig[index, : expected[index]]
        torch.testing.assert_close(alone.rec_sig[0], kept, atol=1e-5, rtol=1e-4)
        assert not both.rec_sig[index, expected[index] :].any()
        if both.bits:
            assert alone.bits == [both.bits[index]]
        if both.toks:
            assert torch.equal(alone.toks[0], both.toks[index])  # type: ignore[index]
    assert both.rec_sig.abs().max() > 0


# -- FocalCodec ------------------------------------------------------------------------------------


def test_focalcodec() -> None:
    coder = load(CODEC)
    check(coder)
    sig, lengths = batch(0.5, 0.333)
    coded = coder.code(sig, 16000, lengths)
    assert coded.toks is not None and coded.bits == [13 * len(toks) for toks in coded.toks]
    assert coder.codebook_size == 8192 and coder.kbps == 0.65


def test_vocoder_and_original() -> None:
    check(load(f"vocoder:{CODEC}"))
    sig, lengths = batch(0.5)
    assert torch.equal(load("original").code(sig, 16000, lengths).rec_sig, sig)


@pytest.mark.parametrize("text", [CODEC, f"vocoder:{CODEC}"])
def test_long_clips_go_in_windows(text: str) -> None:
    sig, lengths = batch(38.0)  # 34 s is the shortest window of this model
    whole, windows = (load(text, seconds).code(sig, 16000, lengths) for seconds in (60.0, 34.0))
    assert whole.rec_sig.shape == windows.rec_sig.shape and whole.bits == windows.bits
    assert not torch.equal(whole.rec_sig, windows.rec_sig)


# -- codecs of others, with random weights ---------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers as tf

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    encodec = tf.EncodecConfig(
        num_filters=4,
        hidden_size=16,
        codebook_size=64,
        num_lstm_layers=1,
        target_bandwidths=[0.9, 1.8],
    )
    dac = tf.DacConfig(
        encoder_hidden_size=4, decoder_hidden_size=32, n_codebooks=3, codebook_size=64
    )
    mimi = tf.MimiConfig(
        hidden_size=32, num_filters=4, num_quantizers=4, codebook_size=64, codebook_dim=16,
        vector_quantization_hidden_dimension=16, upsample_groups=32, num_hidden_layers=1,
        intermediate_size=32, num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    semantic = tf.Wav2Vec2BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        feature_projection_input_dim=160, conv_depthwise_kernel_size=3,
    )  # fmt: skip
    xcodec2 = tf.Xcodec2Config(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, encoder_hidden_size=4, quantization_dim=48,
        semantic_model_config=semantic.to_dict(),
    )  # fmt: skip
    for name, model in {
        "encodec": tf.EncodecModel(encodec),
        "dac": tf.DacModel(dac),
        "mimi": tf.MimiModel(mimi),
        "xcodec2": tf.Xcodec2Model(xcodec2),
    }.items():
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        for buffer_name, buffer in model.named_buffers():
            if "embed" in buffer_name and buffer.is_floating_point():
                torch.nn.init.normal_(buffer)
        model.save_pretrained(folder / name)
    return folder


@pytest.mark.parametrize(
    ("text", "kbps", "frame_bits"),
    [
        ("encodec:0.9", 0.9, 12),
        ("encodec:1.8", 1.8, 24),
        ("dac:1", 0.1875, 6),
        ("dac", 0.5625, 18),
        ("mimi:2", 0.15, 12),
        ("xcodec2", 0.8, 16),
    ],
)
def test_model_of_transformers(models: Path, text: str, kbps: float, frame_bits: int) -> None:
    coder = load(f"{text}@{models / text.split(':')[0]}")
    check(coder)
    assert coder.bits == frame_bits and len(coder.weights_sha256) == 64
    assert coder.kbps == pytest.approx(kbps)
    sig, lengths = batch(2.0)
    coded = coder.code(sig, 16000, lengths)
    assert coded.bits is not None
    assert coded.bits[0] / 2000 == pytest.approx(kbps, rel=0.1)
    assert (coded.toks is not None) == (coder.codebook_size is not None)


def test_more_codebooks_change_the_output(models: Path) -> None:
    sig, lengths = batch(0.5)
    one, all_three = (
        load(f"{x}@{models / 'dac'}").code(sig, 16000, lengths) for x in ("dac:1", "dac")
    )
    assert not torch.equal(one.rec_sig, all_three.rec_sig)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dac:4", "1 to 3 codebooks"),
        ("mimi:1.5", "1 to 4 codebooks"),
        ("encodec:7", "0.9, 1.8"),
        ("xcodec2:2", "1 to 1 codebooks"),
        ("mimi:many", "mimi:CODEBOOKS"),
    ],
)
def test_wrong_setting(models: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(f"{text}@{models / text.split(':')[0]}")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("attn_implementation", "someone/kernel", "attn_implementation='someone/kernel'; give"),
        ("dtype", "os.system", "dtype='os.system'; give"),
        ("auto_map", {"AutoModel": "a.B"}, "auto_map=.*; give null"),
        ("sampling_rate", "24 kHz", "sampling_rate='24 kHz'; give an integer"),
        ("target_bandwidths", None, "target_bandwidths=None; give a list"),
        ("num_filters", "4", "not a checkpoint of EncodecModel"),
        ("num_filters", 2**16, "more than the .* values of"),
        ("num_lstm_layers", 10**7, "more than the .* values of"),
    ],
)
def test_configurations_of_others(
    models: Path, tmp_path: Path, key: str, value: object, message: str
) -> None:
    folder = Path(shutil.copytree(models / "encodec", tmp_path / "encodec"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(UserError, match=message) as error:
        load(f"encodec@{folder}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e38])
def test_weights_of_others(models: Path, tmp_path: Path, value: float) -> None:
    path = Path(shutil.copytree(models / "encodec", tmp_path / "encodec")) / "model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name] = torch.full_like(tensors[name], value)
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(UserError, match=f"{name} has "):
        load(f"encodec@{path.parent}")
    save_file(tensors | {name: tensors[name].to(torch.int8)}, path, {"format": "pt"})
    with pytest.raises(UserError, match=f"{name} is I8, where floats belong"):
        load(f"encodec@{path.parent}")


def test_missing_and_damaged_models(models: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dac: .*give CODEC@FOLDER"):
        load("dac")
    with pytest.raises(UserError, match="no .safetensors"):
        load(f"dac@{tmp_path}")
    with pytest.raises(UserError, match="not a (complete )?checkpoint of MimiModel"):
        load(f"mimi@{models / 'dac'}")
    shutil.copytree(models / "dac", tmp_path / "dac")
    (tmp_path / "dac" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="not a checkpoint of DacModel"):
        load(f"dac@{tmp_path / 'dac'}")


# -- ffmpeg ----------------------------------------------------------------------------------------


def need(encoder: str) -> None:
    try:
        ffmpeg._ffmpeg(encoder)
    except UserError as error:
        pytest.skip(str(error))


def lag(sig: Tensor, rec_sig: Tensor, hop: int = 40) -> int:
    """Return the delay of an output's envelope in samples."""
    envelopes = [x.abs().unfold(0, 4 * hop, hop).mean(dim=1) for x in (sig, rec_sig)]
    first, second = (x - x.mean() for x in envelopes)
    best = max(range(-20, 21), key=lambda k: float((first * second.roll(-k))[20:-20].sum()))
    return best * hop


def bursts(rate: int) -> Tensor:
    """Return two seconds of a buzz that is switched on and off."""
    time = torch.arange(2 * rate) / rate
    buzz = torch.sin(2 * torch.pi * 120 * time * torch.arange(1, 9)[:, None]).sum(dim=0)
    return 0.05 * buzz * (torch.sin(2 * torch.pi * 2.3 * time + 9 * time.square()) > 0)


@pytest.mark.parametrize("kbps", [6, 12])
def test_opus(kbps: int) -> None:
    need("libopus")
    coder = load(f"opus:{kbps}")
    sig = bursts(16000)
    coded = coder.code(sig[None], 16000, torch.tensor([len(sig)]))
    assert coded.bits is not None and coder.kbps is None
    assert 0.5 * kbps < coded.bits[0] / 2000 < 1.2 * kbps
    assert coded.rec_sig.shape == (1, len(sig))
    assert abs(lag(sig, coded.rec_sig[0])) <= 40


@pytest.mark.parametrize("mode", ["1300", "700c", "3200"])
def test_codec2(mode: str) -> None:
    need("libcodec2")
    coder = load(f"codec2:{mode}")
    sig = bursts(8000)[: 2 * 8000 - 100]
    coded = coder.code(sig[None], 8000, torch.tensor([len(sig)]))
    assert coded.bits is not None
    assert coded.bits[0] / 2 == pytest.approx(float(mode.rstrip("c")), rel=1e-9), "no padding"
    assert coded.rec_sig.shape == (1, len(sig)) and coder.sample_rate_output == 8000
    assert abs(lag(sig, coded.rec_sig[0])) <= 120


def test_missing_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg._ffmpeg.cache_clear()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="opus:6: ffmpeg: not found.*apt-get install"):
        load("opus:6")


def test_ffmpeg_without_the_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ffmpeg._ffmpeg.cache_clear()
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho ' A..... aac  AAC'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="was built without libcodec2"):
        load("codec2:1300")
    ffmpeg._ffmpeg.cache_clear()


def test_packets_longer_than_a_segment() -> None:
    page = b"OggS" + bytes(22) + bytes([3, 255, 2, 0]) + bytes(257)
    assert [len(packet) for packet in ffmpeg.ogg_packets(page)] == [257, 0]


# -- names -----------------------------------------------------------------------------------------


def test_names() -> None:
    assert parse_spec("lucadellalib/focalcodec_50hz@main").label == "focalcodec_50hz"
    assert parse_spec("lucadellalib/focalcodec_50hz@main").source == "main"
    assert parse_spec(CODEC).label == "tiny_50hz"
    assert parse_spec(f"vocoder:{CODEC}").label == "vocoder:tiny_50hz"
    assert parse_spec("Codec2:700C").kind == "codec2"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "none"),
        ([""], "names none"),
        (["opus"], "opus:KBPS"),
        (["opus:6", "opus:6"], "NAME=opus:6"),
        (["a=opus:6", "A=dac"], "another codec has the label a"),
    ],
)
def test_wrong_names(texts: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_specs(texts)


@pytest.mark.parametrize("text", ["opus:5", "codec2:700", "no/such/folder/at/all"])
def test_codecs_that_do_not_exist(text: str) -> None:
    with pytest.raises(UserError):
        load(text)
