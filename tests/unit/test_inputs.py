"""What users of the Python API give: arrays, lists, numbers of numpy, and codecs without values."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch

from focalcodec import FocalCodec, UserError
from focalcodec.audio import read_audio, write_audio
from focalcodec.conversion import ReferenceSet
from focalcodec.long_audio.coding import decode_blocks
from focalcodec.nn.masking import as_tensor
from tests.unit.small_codecs import GOLDEN, golden_codec, golden_tensors


@pytest.fixture(scope="module")
def codec():
    return golden_codec("tiny_50hz")


@pytest.fixture(scope="module")
def sig():
    return golden_tensors("tiny_50hz")["sig"][:1]


def test_arrays_and_lists_give_the_same(codec, sig):
    toks, lengths = codec.encode(sig)
    num = sig.shape[1]
    arrays = [sig.numpy(), sig.numpy().astype(np.float64), sig.numpy().astype(">f4"), sig.tolist()]
    arrays.append(sig.flip(1).numpy()[:, ::-1])
    for array in arrays:
        assert torch.equal(codec.encode(array)[0], toks)
    for given in ([num], (num,), np.array([num]), np.array([num], np.int32), torch.tensor([num])):
        assert torch.equal(codec.encode(sig, lengths=given)[0], toks)
    for rate in (16000, np.int64(16000), np.uint16(16000)):
        assert torch.equal(codec.encode(sig, sample_rate=rate)[0], toks)
    rec_sig = codec.decode(toks, num_samples=num)
    for array in (toks.numpy(), toks.numpy().astype(np.uint16), toks.tolist()):
        for count in (num, np.int64(num), [num], np.array([num])):
            assert torch.equal(codec.decode(array, lengths.tolist(), count), rec_sig)
    reference = codec.sig_to_feats(sig)[0].detach()
    converted = codec.convert(sig, reference)
    assert torch.equal(codec.convert(sig.numpy(), reference.numpy(), lengths=[num]), converted)
    rate = np.int32(8000)
    assert torch.equal(codec.encode(sig, sample_rate=rate)[0], codec.encode(sig, 8000)[0])
    assert torch.equal(
        codec.decode(toks, sample_rate=np.int64(8000)), codec.decode(toks, sample_rate=8000)
    )


def test_reference_sets_and_files_from_arrays(codec, sig, tmp_path):
    from_array = ReferenceSet.from_sigs(codec, [sig[0].numpy()], np.int64(16000))
    assert torch.equal(from_array.feats, ReferenceSet.from_sigs(codec, [sig[0]]).feats)
    write_audio(tmp_path / "a.wav", sig[0].clamp(-1, 1).numpy(), np.int64(16000))
    assert len(read_audio(tmp_path / "a.wav", np.int64(16000))) == sig.shape[1]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (np.zeros((1, 800), np.int16), "sig: torch.int64; give floats"),
        (np.zeros((), np.float32), r"sig: shape \(\); give"),
        (np.zeros(800, np.float32), r"sig: shape \(800,\); give"),
        (np.zeros((1, 0), np.float32), "sig: empty"),
        (np.array([["a", "b"]]), "sig: ndarray, not numbers"),
        ([[1.0], [1.0, 2.0]], "sig: list, not numbers"),
        ("talk.wav", "sig: str, not numbers"),
        (None, "sig: NoneType, not numbers"),
    ],
)
def test_signals_that_are_none(codec, given, match):
    with pytest.raises(UserError, match=match):
        codec.encode(given)


@pytest.mark.parametrize("rate", [16000.0, True, 0, -1, "16000", np.float64(16000), np.int64(0)])
def test_rates_that_are_none(codec, sig, rate):
    with pytest.raises(UserError, match="sample rate .*: give a positive integer"):
        codec.encode(sig, sample_rate=rate)


@pytest.mark.parametrize("size", [1e30, 3e38])
def test_signals_that_overflow(codec, sig, size):
    """Finite samples may give features that are not: they are no tokens."""
    for given in (sig.sign() * size, torch.cat([sig, sig.sign() * size])):
        with pytest.raises(UserError, match="sig: its features are not finite; scale it to"):
            codec.encode(given)


def test_one_step_names_what_it_needs(codec, sig):
    """Single steps take tensors; an array is one line that says how to make one."""
    toks = codec.encode(sig)[0]
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
    toks = codec.encode(sig)[0]
    calls = [
        lambda: meta.encode(sig),
        lambda: meta.decode(toks),
        lambda: meta.convert(sig, torch.ones(9, 8)),
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
    with pytest.raises(UserError, match="precision: 'int8'; give one of"):
        FocalCodec.from_pretrained(folder, dtype="int8")


def test_parts_of_others_need_trust(codec, tmp_path, monkeypatch):
    """A class path in config.json is imported only where the caller names its module."""
    (tmp_path / "my_quantizers.py").write_text(
        "from focalcodec.bsq import BinarySphericalQuantizer\n"
        "class Mine(BinarySphericalQuantizer):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = codec.config | {"quantizer_name": "my_quantizers.Mine"}
    with pytest.raises(UserError, match="quantizer_name='my_quantizers.Mine'"):
        FocalCodec.from_config(config)
    assert "my_quantizers" not in sys.modules
    quantizer = FocalCodec.from_config(config, trust=["my_quantizers"]).quantizer
    assert type(quantizer).__name__ == "Mine"
