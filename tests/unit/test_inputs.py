"""What users of the Python API give: arrays, lists, numbers of numpy, and codecs without values."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from focalcodec import FocalCodec, UserError
from focalcodec.audio import read_audio, write_audio
from focalcodec.audio_stream import AudioStream
from focalcodec.conversion import ReferenceSet
from focalcodec.long_audio.coding import decode_blocks, encode_blocks, feats_blocks
from focalcodec.nn.masking import as_tensor
from tests.unit.small_codecs import GOLDEN, golden_codec, golden_tensors


@pytest.fixture(scope="module")
def codec():
    return golden_codec("tiny_50hz")


@pytest.fixture(scope="module")
def sig():
    return golden_tensors("tiny_50hz")["sig"][:1]


def test_arrays_and_lists_give_the_same(codec, sig):
    toks, lengths = codec.encode(sig, 16000)
    num = sig.shape[1]
    arrays = [sig.numpy(), sig.numpy().astype(np.float64), sig.numpy().astype(">f4"), sig.tolist()]
    arrays.append(sig.flip(1).numpy()[:, ::-1])
    for array in arrays:
        assert torch.equal(codec.encode(array, 16000)[0], toks)
    for given in ([num], (num,), np.array([num]), np.array([num], np.int32), torch.tensor([num])):
        assert torch.equal(codec.encode(sig, 16000, lengths=given)[0], toks)
    for rate in (16000, np.int64(16000), np.uint16(16000)):
        assert torch.equal(codec.encode(sig, sample_rate=rate)[0], toks)
    rec_sig = codec.decode(toks, num_samples=num)
    for array in (toks.numpy(), toks.numpy().astype(np.uint16), toks.tolist()):
        for count in (num, np.int64(num), [num], np.array([num])):
            assert torch.equal(codec.decode(array, lengths.tolist(), count), rec_sig)
    reference = codec.sig_to_feats(sig)[0].detach()
    converted = codec.convert(sig, reference, 16000)
    assert torch.equal(
        codec.convert(sig.numpy(), reference.numpy(), 16000, lengths=[num]), converted
    )
    rate = np.int32(8000)
    assert torch.equal(codec.encode(sig, sample_rate=rate)[0], codec.encode(sig, 8000)[0])
    assert torch.equal(
        codec.decode(toks, sample_rate=np.int64(8000)), codec.decode(toks, sample_rate=8000)
    )


def test_reference_sets_and_files_from_arrays(codec, sig, tmp_path):
    from_array = ReferenceSet.from_sigs(codec, [sig[0].numpy()], np.int64(16000))
    assert torch.equal(from_array.feats, ReferenceSet.from_sigs(codec, [sig[0]], 16000).feats)
    write_audio(tmp_path / "a.wav", sig[0].clamp(-1, 1).numpy(), np.int64(16000))
    assert len(read_audio(tmp_path / "a.wav", np.int64(16000))) == sig.shape[1]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (np.zeros((1, 800), np.int16), "sig: torch.int64; give floats"),
        (np.zeros((), np.float32), r"sig: shape \(\); give \(samples,\), \(batch, samples\) or"),
        (np.zeros((1, 1, 1, 8), np.float32), r"sig: shape \(1, 1, 1, 8\); give \(samples,\)"),
        (
            np.zeros((3, 2, 8), np.float32),
            r"sig: shape \(3, 2, 8\), 2 channels; give one, e.g. sig",
        ),
        (np.zeros((1, 0), np.float32), "sig: empty"),
        (np.array([["a", "b"]]), "sig: ndarray, not numbers"),
        ([[1.0], [1.0, 2.0]], "sig: list, not numbers"),
        ("talk.wav", r"sig: 'talk.wav' is a path; give samples, or call encode_file\(path\)"),
        (Path("talk.wav"), "sig: 'talk.wav' is a path"),
        (b"talk.wav", "sig: bytes, not numbers"),
        (None, "sig: NoneType, not numbers"),
    ],
)
def test_signals_that_are_none(codec, given, match):
    with pytest.raises(UserError, match=match):
        codec.encode(given, 16000)
    with pytest.raises(UserError, match=match):
        codec.convert(given, torch.ones(9, codec.encoder.dim), 16000)


def test_one_clip_and_one_channel(codec, sig):
    """(samples,) is a batch of one, (batch, 1, samples) is what torchaudio users have."""
    toks, lengths = codec.encode(sig, 16000)
    reference = codec.sig_to_feats(sig)[0].detach()
    converted = codec.convert(sig, reference, 16000)
    for given in (sig[0], sig[None], sig[0].numpy(), sig[None].numpy(), sig[0].tolist()):
        found = codec.encode(given, 16000)
        assert torch.equal(found[0], toks) and torch.equal(found[1], lengths)
        assert torch.equal(codec.convert(given, reference, 16000), converted)
    pair = torch.stack([sig, sig.flip(1)])  # (2, 1, T)
    assert torch.equal(codec.encode(pair, 16000)[0], codec.encode(pair[:, 0], 16000)[0])
    rec_sig = codec.decode(toks, num_samples=sig.shape[1])
    for given in (toks[0], toks[0].numpy(), toks[0].tolist()):
        assert torch.equal(codec.decode(given, num_samples=sig.shape[1]), rec_sig)


def test_each_signal_comes_with_its_rate(codec, sig, tmp_path):
    """An 8 kHz file is never taken for 16 kHz: who gives samples gives their rate."""
    path = tmp_path / "a.wav"
    write_audio(path, sig[0].clamp(-1, 1), 8000)
    calls = [
        lambda: read_audio(path),
        lambda: codec.encode(sig),
        lambda: codec.convert(sig, torch.ones(9, codec.encoder.dim)),
        lambda: ReferenceSet.from_sigs(codec, [sig[0]]),
        lambda: list(encode_blocks(codec, [sig[0]])),
        lambda: list(feats_blocks(codec, [sig[0]])),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="missing 1 required .* 'sample_rate'"):
            call()
    with pytest.raises(UserError, match="sample rate None: give a positive integer, in Hz"):
        read_audio(path, None)
    with AudioStream(path) as stream:
        blocks = [*encode_blocks(codec, stream, stream.sample_rate)]
    expected, _ = codec.encode(read_audio(path, 16000), 16000)
    assert torch.equal(torch.cat(blocks), expected[0])
    assert torch.equal(codec.encode_file(path).toks, expected[0])
    assert len(expected[0]) > 1.9 * len(codec.encode(sig, 16000)[0][0])


@pytest.mark.parametrize(
    "rate", [None, 16000.0, True, 0, -1, "16000", np.float64(16000), np.int64(0)]
)
def test_rates_that_are_none(codec, sig, rate):
    with pytest.raises(UserError, match="sample rate .*: give a positive integer"):
        codec.encode(sig, sample_rate=rate)


@pytest.mark.parametrize("size", [1e30, 3e38])
def test_signals_that_overflow(codec, sig, size):
    """Finite samples may give features that are not: they are no tokens."""
    for given in (sig.sign() * size, torch.cat([sig, sig.sign() * size])):
        with pytest.raises(UserError, match="sig: its features are not finite; scale it to"):
            codec.encode(given, 16000)


def test_one_step_names_what_it_needs(codec, sig):
    """Single steps take tensors; an array is one line that says how to make one."""
    toks = codec.encode(sig, 16000)[0]
    num = [sig.shape[1]]
    calls = {
        "sig: ndarray; .*from_numpy": [codec.sig_to_feats, codec.sig_to_toks, codec.sig_to_qfeats],
        "toks: ndarray; .*from_numpy": [codec.toks_to_qfeats, codec.toks_to_sig],
    }
    for match, functions in calls.items():
        array = sig.numpy() if match.startswith("sig") else toks.numpy()
        for function in functions:
            with pytest.raises(UserError, match=match):
                function(array)
    for function in (codec.sig_to_feats, codec.sig_to_toks, codec):
        with pytest.raises(UserError, match="lengths: list; give a tensor"):
            function(sig, lengths=num)
        # the second argument by position is a state
        for lengths in (num, torch.tensor(num)):
            with pytest.raises(UserError, match="encoder_state: .* go by name: lengths="):
                function(sig, lengths)
    with pytest.raises(UserError, match="lengths: list; give a tensor"):
        codec.toks_to_sig(toks, lengths=[toks.shape[1]])
    with pytest.raises(UserError, match="decompressor_state: .* go by name: lengths="):
        codec.toks_to_sig(toks, torch.tensor([toks.shape[1]]))
    with pytest.raises(UserError, match="toks: ndarray; give a tensor"):
        list(decode_blocks(codec, toks[0].numpy()))


def test_a_codec_without_values(codec, sig):
    meta = FocalCodec.from_config(codec.config).to("meta")
    toks = codec.encode(sig, 16000)[0]
    calls = [
        lambda: meta.encode(sig, 16000),
        lambda: meta.decode(toks),
        lambda: meta.convert(sig, torch.ones(9, 8), 16000),
    ]
    for call in calls:
        with pytest.raises(UserError, match="codec: on the meta device, without values; load"):
            call()


def test_tensors_are_not_copied():
    tensor = torch.ones(3)
    assert as_tensor("a", tensor) is tensor
    array = np.ones(3)
    as_tensor("a", array).zero_()
    assert array.all()


def test_device_and_dtype_of_a_loaded_codec(sig):
    folder = GOLDEN["tiny_50hz"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bf16 is slow on some processors
        for dtype in (torch.bfloat16, "bfloat16", "bf16"):
            codec = FocalCodec.from_pretrained(folder, device="cpu", dtype=dtype)
            assert next(codec.compressor.parameters()).dtype == torch.bfloat16
            assert codec.encode(sig, 16000)[0].dtype == torch.int64 and not codec.training
    assert FocalCodec.from_pretrained(folder, device=torch.device("cpu")).device.type == "cpu"
    with pytest.raises(UserError, match="device 'cuda:99': not available"):
        FocalCodec.from_pretrained(folder, device="cuda:99")
    with pytest.raises(UserError, match="precision: 'int4'; give one of"):
        FocalCodec.from_pretrained(folder, dtype="int4")
