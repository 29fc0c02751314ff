"""Contracts of the parts, classes of one's own by their names, and what can't be stored."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from focalcodec import FocalCodec
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.codec import REGISTRY
from focalcodec.contracts import CONTRACT, check_part
from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.nn.quantizer_base import QuantizerBase
from focalcodec.parts import PARTS, register_part
from focalcodec.vocos import Vocos

MODULE = '''
from helpers import SIZE
from focalcodec.vocos import Vocos


class Mine(Vocos):
    """A decoder of a user."""

    size = SIZE

    def __init__(self, input_dim):
        super().__init__(input_dim, num_layers=1, dim=SIZE, ffn_dim=SIZE)
        self.config = {"input_dim": input_dim}
'''


class Halves(QuantizerBase):
    """A quantizer without bits: each value is one of three."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.config, self.dim, self.codebook_size = {"width": width}, width, 3**width
        self.register_buffer("places", 3 ** torch.arange(width), persistent=False)

    def lats_to_codes(self, lats: Tensor) -> Tensor:
        return (2 * lats).round().clamp(-1, 1)

    def codes_to_toks(self, codes: Tensor) -> Tensor:
        return ((codes + 1).long() * self.places).sum(dim=-1)

    def toks_to_codes(self, toks: Tensor) -> Tensor:
        return self.checked(toks)[..., None] // self.places % 3 - 1.0


class Plain(nn.Module):
    """A compressor with the call of the contract; its lats have any norm."""

    factor, config = 1, {}

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        return 3 * self.linear(x), lengths

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return lengths


def parts(**others: Any) -> dict[str, Any]:
    small = {
        "encoder": LogMel(n_mels=8),
        "compressor": FocalEncoder(8, 4, [8], [1]),
        "quantizer": BinarySphericalQuantizer(16),
        "decompressor": FocalDecoder(4, 8, [8], [1]),
        "decoder": Vocos(8, num_layers=1, dim=8, ffn_dim=8),
    }
    return small | others


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of a user, beside which a helper lies, imported."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine.py").write_text(MODULE)
    (tmp_path / "work" / "helpers.py").write_text("SIZE = 6\n")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a version a second at most
    monkeypatch.syspath_prepend(str(tmp_path / "work"))
    yield __import__("mine")
    forget()


def forget() -> None:
    for name in ("mine", "helpers"):
        sys.modules.pop(name, None)


# -- contracts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", PARTS)
def test_what_is_missing_is_named(role: str) -> None:
    part: Any = parts()[role]
    check_part(role, part)
    for name in CONTRACT[role]:

        class Without(type(part)):  # type: ignore[misc]
            def __getattribute__(self, attribute: str, name: str = name) -> Any:
                if attribute == name:
                    raise AttributeError(attribute)
                return super().__getattribute__(attribute)

        other = Without.__new__(Without)
        other.__dict__.update(part.__dict__)
        with pytest.raises(UserError, match=f"{role}: Without has no attribute '{name}'"):
            check_part(role, other)


def test_other_things_are_refused_when_a_codec_is_made() -> None:
    class Silent(Vocos):
        def forward(self, input: Tensor) -> Any:
            return super().forward(input)

    with pytest.raises(UserError, match="decoder: forward of Silent has no argument lengths"):
        FocalCodec(**parts(decoder=Silent(8, num_layers=1, dim=8, ffn_dim=8)))
    silent = Silent.__new__(Silent)
    silent.config, silent.hop, silent.output_lengths = {}, 320, None
    with pytest.raises(UserError, match=r"decoder: Silent .* lacks super\(\).__init__\(\)"):
        FocalCodec(**parts(decoder=silent))
    with pytest.raises(UserError, match="codebook_size=1099511627776; give 2 to 1048576"):
        FocalCodec(**parts(quantizer=BinarySphericalQuantizer(2**40)))
    with pytest.raises(UserError, match="encoder gives width 8, compressor takes 9"):
        FocalCodec(**parts(compressor=FocalEncoder(9, 4, [8], [1])))
    with pytest.raises(UserError, match="encoder gives width 8, decompressor has 7"):
        decoder = Vocos(7, num_layers=1, dim=8, ffn_dim=8)
        FocalCodec(**parts(decompressor=FocalDecoder(4, 7, [8], [1]), decoder=decoder))


def test_a_quantizer_needs_no_bits() -> None:
    codec = FocalCodec(**parts(quantizer=Halves())).eval()
    assert codec.codebook.shape == (81, 4) and codec.vocab_size == 81
    assert codec.bitrate == pytest.approx(50 * 6.34, abs=0.01) and codec.bits_per_token == 7
    toks, lengths = codec.encode(torch.randn(1, 8000), 16000)
    assert torch.equal(codec.codes_to_toks(codec.toks_to_codes(toks)), toks)
    assert codec.decode(toks, lengths).shape == (1, 8000)
    with pytest.raises(UserError, match=r"token 81: .* \[0, 81\)"):
        codec.decode(torch.tensor([[81]]))
    quantizer = Halves().train()
    lats = torch.randn(2, 3, 4, requires_grad=True)
    _, codes = quantizer(lats, lengths=torch.tensor([3, 2]))
    (grad,) = torch.autograd.grad(codes.sum(), lats)
    assert torch.equal(grad[0], torch.ones(3, 4)) and not codes[1, 2].any() and not grad[1, 2].any()


def test_lats_of_any_norm_give_the_same_tokens_alone_and_in_a_batch() -> None:
    codec = FocalCodec(**parts(compressor=Plain(), quantizer=Halves())).eval()
    sig = torch.randn(2, 16000)
    toks, lengths = codec.encode(sig, 16000, lengths=torch.tensor([16000, 8000]))
    alone, _ = codec.encode(sig[1:, :8000], 16000)
    assert torch.equal(toks[1, : lengths[1]], alone[0])
    lats = codec.sig_to_lats(sig)
    assert not torch.allclose(lats.norm(dim=-1), torch.ones(()))


# -- names and trust -------------------------------------------------------------------------------


def test_code_runs_only_if_it_is_trusted(module: Any, tmp_path: Path) -> None:
    codec = FocalCodec(**parts(decoder=module.Mine(8)))
    state = torch.get_rng_state()
    codec.save_pretrained(tmp_path / "codec")
    assert torch.equal(torch.get_rng_state(), state)
    assert {path.name for path in (tmp_path / "codec").glob("*.py")} == {"mine.py", "helpers.py"}
    config = json.loads((tmp_path / "codec" / "config.json").read_text())
    assert config["decoder_name"] == "mine.Mine"
    with pytest.raises(UserError, match="decoder_name=mine.Mine: code .* give --trust mine, or"):
        FocalCodec.from_pretrained(tmp_path / "codec")
    loaded = FocalCodec.from_pretrained(tmp_path / "codec", trust=["mine"])
    assert type(loaded.decoder) is module.Mine
    config["decoder_name"] = "mine.os"
    with pytest.raises(UserError, match="no nn.Module of this name in mine"):
        FocalCodec(**config, trust=["mine"])


def test_the_copy_beside_the_weights_is_found(module: Any, tmp_path: Path, monkeypatch) -> None:
    for size in (4, 6):
        (tmp_path / "work" / "helpers.py").write_text(f"SIZE = {size}\n")
        forget()
        part = __import__("mine").Mine(8)
        FocalCodec(**parts(decoder=part)).save_pretrained(tmp_path / f"codec{size}")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not p.endswith("work")])
    forget()
    for size in (4, 6, 4):  # two versions in one process
        codec = FocalCodec.from_pretrained(tmp_path / f"codec{size}", trust=["mine"])
        assert codec.decoder.size == size  # type: ignore[attr-defined]
        assert pickle.loads(pickle.dumps(codec)).decoder.size == size
    with pytest.raises(UserError, match="trust absent: no module absent; run in the folder"):
        FocalCodec.from_config(codec.config | {"decoder_name": "absent.A"}, trust=["absent"])
    (tmp_path / "codec4" / "mine.py").write_text("1 / 0\n")
    forget()
    with pytest.raises(UserError, match="trust mine: ZeroDivisionError in this module"):
        FocalCodec.from_pretrained(tmp_path / "codec4", trust=["mine"])


def test_what_could_not_be_loaded_is_refused_before_it_is_written(tmp_path: Path) -> None:
    class Here(Vocos):
        pass

    decoder = Here(8, num_layers=1, dim=8, ffn_dim=8)
    with pytest.raises(UserError, match=r"decoder: Here could not be loaded again, .* my_parts.py"):
        FocalCodec(**parts(decoder=decoder)).save_pretrained(tmp_path / "codec")
    quantizer = Halves(4)
    quantizer.config = {"breadth": 4}
    with pytest.raises(UserError, match="quantizer: Halves can't be made again from its config"):
        FocalCodec(**parts(quantizer=quantizer)).save_pretrained(tmp_path / "codec")
    compressor = Plain()
    compressor.linear = nn.Linear(8, 4, bias=False)
    with pytest.raises(UserError, match="made from its config has another linear.bias"):
        FocalCodec(**parts(compressor=compressor)).save_pretrained(tmp_path / "codec")
    assert not (tmp_path / "codec").exists()


def test_a_registered_class_needs_no_trust(tmp_path: Path, monkeypatch) -> None:
    class Here(Vocos):
        pass

    monkeypatch.setattr("focalcodec.parts.REGISTRY", dict(REGISTRY))
    register_part(Here)
    register_part(Here)  # a cell of a notebook runs again
    decoder = Here(8, num_layers=1, dim=8, ffn_dim=8)
    FocalCodec(**parts(decoder=decoder)).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["decoder_name"] == "Here"
    assert type(FocalCodec.from_pretrained(tmp_path).decoder) is Here
    with pytest.raises(UserError, match="focalcodec.vocos.Vocos has the name Vocos"):
        register_part(type("Vocos", (nn.Module,), {}))


def test_a_class_with_the_official_call(monkeypatch: pytest.MonkeyPatch) -> None:
    class Official(nn.Module):
        """As a program for the official package has it: no lengths, lats of any norm."""

        config, factor = {}, 1

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 4)

        def forward(self, input: Tensor, left_contexts: Any = None) -> tuple[Tensor, Any]:
            return self.linear(input), left_contexts

    with pytest.raises(UserError, match="no attribute 'output_lengths'"):
        FocalCodec(**parts(compressor=Official()))
    monkeypatch.setitem(REGISTRY, "Official", Official)
    codec = FocalCodec(**parts(compressor=Official())).eval()
    lats = codec.sig_to_lats(torch.randn(1, 8000))
    torch.testing.assert_close(lats.norm(dim=-1), torch.ones(1, 25))
    with pytest.raises(UserError, match="compressor: Official takes no lengths"):
        codec.encode(torch.randn(2, 8000), 16000, lengths=[8000, 4000])
