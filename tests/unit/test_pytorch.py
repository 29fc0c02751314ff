"""A codec as any PyTorch module: gradients, autocast, compile, export, copies, threads, processes.

The table of docs/pytorch.md names these tests.
"""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from small_codecs import GOLDEN, golden_codec, golden_tensors, logmel_codec
from torch import Tensor, nn

from focalcodec import FocalCodec
from focalcodec.bsq import BinarySphericalQuantizer

CASES = ["tiny_50hz", "tiny_12_5hz", "tiny_50hz_causal"]
FROM_SIG = ["sig_to_codes", "sig_to_qfeats", "sig_to_sig"]


def clip(name: str) -> Tensor:
    return golden_tensors(name)["sig"][:, :6400]


def asked(x: Tensor) -> Tensor:
    return x.clone().requires_grad_()


# -- gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", [*FROM_SIG, "forward"])
def test_the_input_gets_a_gradient_where_it_asks_for_one(name, method):
    codec, sig = golden_codec(name), asked(clip(name))
    plain, result = getattr(codec, method)(clip(name)), getattr(codec, method)(sig)
    for expected, found in zip(tensors(plain), tensors(result), strict=True):
        assert torch.equal(expected, found)  # not one bit of a result changes
    tensors(result)[-1].square().sum().backward()
    assert sig.grad is not None
    assert torch.isfinite(sig.grad).all()
    assert bool(sig.grad.any())
    codec.zero_grad()


def tensors(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def test_it_goes_straight_through_the_quantizer():
    """The gradient is that of the codec without rounding, at the values with rounding."""
    codec, sig = golden_codec("tiny_50hz"), asked(clip("tiny_50hz"))
    codec(sig)[2].square().sum().backward()
    lats = codec.sig_to_lats(other := asked(sig.detach()))
    codes = codec.lats_to_codes(lats.detach()).requires_grad_()
    rec_sig = codec.codes_to_sig(codes, output_length=sig.shape[1])
    (gradient,) = torch.autograd.grad(rec_sig.square().sum(), codes)
    lats.backward(gradient)
    assert torch.allclose(other.grad, sig.grad, rtol=1e-4, atol=1e-5 * float(sig.grad.abs().max()))
    steps = asked(sig.detach())
    codes = codec.lats_to_codes(codec.feats_to_lats(codec.sig_to_feats(steps)))
    codec.codes_to_sig(codes, output_length=sig.shape[1]).square().sum().backward()
    assert torch.equal(steps.grad, sig.grad)
    codec.zero_grad()


def test_it_goes_through_the_projection_of_an_own_quantizer():
    """As in the training of the quantizer."""

    class Tanh(BinarySphericalQuantizer):
        def project(self, lats: Tensor) -> Tensor:
            return torch.tanh(3 * lats)

    codec, quantizer = copy.deepcopy(logmel_codec()), Tanh(8192).train()
    codec.quantizer = quantizer.eval()
    lats, other = asked(torch.randn(1, 5, 13)), asked(torch.zeros(1, 5, 13))
    other.data.copy_(lats.data)
    codec.lats_to_codes(lats).sin().sum().backward()
    quantizer.train().run(other)[1].sin().sum().backward()
    assert torch.allclose(lats.grad, other.grad, atol=1e-6)


def test_codes_have_no_gradient_that_nobody_asked_for():
    """A program for the official package takes `.numpy()` of codes without `no_grad`."""
    codec, sig = golden_codec("tiny_50hz"), clip("tiny_50hz")
    assert all(weight.requires_grad for weight in codec.parameters())
    assert not codec.sig_to_codes(sig).requires_grad
    assert not codec(sig)[1].requires_grad
    assert not codec.feats_to_codes(codec.sig_to_feats(sig).detach()).requires_grad


def test_in_training_mode_all_weights_get_a_gradient():
    codec = copy.deepcopy(golden_codec("tiny_50hz")).train()
    codec(clip("tiny_50hz"))[2].square().sum().backward()
    # the query of attention has a bias of the key, which no output depends on
    without = {name for name, weight in codec.named_parameters() if weight.grad is None}
    assert not {name for name in without if name.startswith("compressor")}
    assert any(bool(w.grad.any()) for w in codec.encoder.parameters() if w.grad is not None)


def test_padding_gets_no_gradient():
    codec, sig = golden_codec("tiny_50hz"), asked(torch.randn(2, 6400))
    rec_sig, _ = codec(sig, lengths=torch.tensor([6400, 4000]))
    rec_sig.square().sum().backward()
    assert not sig.grad[1, 4000:].any()
    assert sig.grad[1, :4000].any()
    codec.zero_grad()


# -- number formats --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny_50hz", "tiny_50hz_causal"])
def test_waveforms_are_float32_under_autocast(name):
    codec, sig = golden_codec(name), clip(name)
    with torch.autocast("cpu", torch.bfloat16):
        toks, codes, rec_sig = codec(sig)
        assert {codes.dtype, rec_sig.dtype, codec.decode(toks).dtype} == {torch.float32}
    assert (toks == codec.sig_to_toks(sig)).float().mean() > 0.8


def test_a_log_mel_encoder_is_exact_under_autocast():
    codec, sig = logmel_codec(), torch.randn(1, 8000)
    with torch.autocast("cpu", torch.bfloat16):
        feats = codec.sig_to_feats(sig)
    assert torch.equal(feats, codec.sig_to_feats(sig))


# -- compile and export ----------------------------------------------------------------------------


def test_compiled():
    """The codec as a whole in one graph; or its parts in place, for `encode` and `decode`."""
    codec, sig = logmel_codec(), torch.randn(1, 8000) / 9
    toks, rec_sig = codec.encode(sig, 16000)[0], codec.decode(codec.encode(sig, 16000)[0])
    with torch.no_grad():
        expected = codec(sig)
        found = torch.compile(copy.deepcopy(codec), backend="eager", fullgraph=True)(sig)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    parts = copy.deepcopy(codec)
    for part in (parts.encoder, parts.compressor, parts.decompressor, parts.decoder):
        part.compile(backend="eager")
    for other in (parts, copy.deepcopy(parts), pickle.loads(pickle.dumps(parts))):
        assert torch.equal(other.encode(sig, 16000)[0], toks)
        assert torch.equal(other.decode(toks), rec_sig)


class Step(nn.Module):
    """One method of a codec as a program."""

    def __init__(self, codec: FocalCodec, method: str) -> None:
        super().__init__()
        self.codec = codec
        self.method = method

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.codec, self.method)(x)


def test_exported(tmp_path):
    """Programs for any length; tokens out of range are refused when the program runs."""
    codec, sig = logmel_codec(), torch.randn(1, 12000) / 9
    toks = codec.sig_to_toks(sig)
    for method, x in {"sig_to_toks": sig, "toks_to_sig": toks}.items():
        sizes = ({1: torch.export.Dim.DYNAMIC},)
        with torch.no_grad():
            program = torch.export.export(Step(codec, method), (x,), dynamic_shapes=sizes)
        torch.export.save(program, tmp_path / "program.pt2")
        run = torch.export.load(tmp_path / "program.pt2").module()
        for given in (x, x[:, : 3 * x.shape[1] // 4]):
            assert torch.allclose(run(given), getattr(codec, method)(given), atol=1e-5)
    with pytest.raises(RuntimeError, match=r"toks: not all in \[0, "):
        run(toks.clamp(min=codec.quantizer.codebook_size))


@pytest.mark.parametrize("name", ["tiny_50hz", "tiny_50hz_causal"])
def test_exported_with_wavlm(name):
    """At one length: its attention and its causal states."""
    codec, sig = golden_codec(name), clip(name)
    with torch.no_grad():
        program = torch.export.export(codec, (sig,)).module()
    expected, found = codec(sig), program(sig)
    assert torch.equal(found[0], expected[0])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(expected, found, strict=True))


# -- copies, threads, processes --------------------------------------------------------------------


def test_threads_share_a_codec():
    codec, sig = golden_codec("tiny_50hz"), clip("tiny_50hz")
    clips = [sig * scale for scale in (0.2, 0.4, 0.6, 0.8, 1.0, 0.1, 0.3, 0.5)]
    expected = [codec.encode(each, 16000)[0] for each in clips]
    with ThreadPoolExecutor(4) as threads:
        for toks, (found, _) in zip(
            expected, threads.map(codec.encode, clips, [16000] * 8), strict=True
        ):
            assert torch.equal(found, toks)


def tokens_of(codec: FocalCodec, sig: Tensor) -> list[int]:
    return codec.encode(sig, 16000)[0].flatten().tolist()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_get_a_codec(method):
    """After the parent used it: as DataLoader workers do, by fork, or by a pickle of it."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"platform: no {method}")
    codec, sig = FocalCodec.from_pretrained(GOLDEN["tiny_50hz"]), clip("tiny_50hz")
    expected = tokens_of(codec, sig)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply_async(tokens_of, (codec, sig)).get(timeout=120) == expected


def test_copies_are_independent():
    codec, sig = golden_codec("tiny_50hz"), clip("tiny_50hz")
    toks = codec.encode(sig, 16000)[0]
    for other in (copy.deepcopy(codec), pickle.loads(pickle.dumps(codec))):
        assert torch.equal(other.encode(sig, 16000)[0], toks)
        assert other.info() == codec.info()
        nn.init.zeros_(other.compressor.out_proj.weight)
    assert torch.equal(codec.encode(sig, 16000)[0], toks)
