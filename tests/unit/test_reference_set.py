"""Reference sets: from signals and files, in a file, refused if they do not fit."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from focalcodec import FocalCodec, UserError, __version__
from focalcodec.audio import read_audio, resample, write_audio
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.conversion import ReferenceSet
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.vocos import Vocos
from focalcodec.wavlm import WavLM
from tests.unit.small_codecs import golden_codec, logmel_codec


def noise(samples, seed=0):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def files(tmp_path):
    """Two recordings of different rates, and one of two channels."""
    write_audio(tmp_path / "a.wav", noise(16000), 16000)
    write_audio(tmp_path / "b.flac", noise(12000, 1), 24000)
    return [tmp_path / "a.wav", tmp_path / "b.flac"]


# -- making -------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [logmel_codec(), golden_codec("tiny_50hz")])
@torch.no_grad()
def test_from_sigs_gives_the_continuous_feats(codec):
    sigs = [noise(16000), noise(5001, 1)]
    reference = ReferenceSet.from_sigs(codec, sigs, 16000)
    expected = torch.cat([codec.sig_to_feats(sig[None])[0] for sig in sigs])
    assert torch.equal(reference.feats, expected)
    assert reference.seconds == pytest.approx(21001 / 16000)
    assert (reference.sample_rate, reference.version) == (16000, __version__)


@torch.no_grad()
def test_from_files_gives_the_feats_of_each_file(files):
    codec = logmel_codec()
    reference = ReferenceSet.from_files(codec, files)
    sigs = [read_audio(path, sample_rate=16000) for path in files]
    expected = torch.cat([codec.sig_to_feats(sig[None])[0] for sig in sigs])
    torch.testing.assert_close(reference.feats, expected, atol=1e-5, rtol=0)
    assert reference.files == tuple(str(path) for path in files)
    assert reference.seconds == pytest.approx(1.5)


def test_signals_are_resampled_for_the_encoder():
    codec = logmel_codec()
    sig = noise(24000)
    reference = ReferenceSet.from_sigs(codec, [sig], sample_rate=24000)
    resampled = resample(sig[None], 24000, 16000)[0][0]
    assert torch.equal(reference.feats, ReferenceSet.from_sigs(codec, [resampled], 16000).feats)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.5])
def test_windows_change_nothing(seconds):
    """A log-mel frame has a finite context, so windows give the frames of the whole."""
    codec = logmel_codec()
    sig = noise(40007)
    whole = ReferenceSet.from_sigs(codec, [sig], 16000)
    parts = ReferenceSet.from_sigs(codec, [sig], 16000, window_seconds=seconds)
    torch.testing.assert_close(parts.feats, whole.feats, atol=1e-5, rtol=0)


def test_float16_takes_half_the_space():
    codec = logmel_codec()
    whole = ReferenceSet.from_sigs(codec, [noise(16000)], 16000)
    half = ReferenceSet.from_sigs(codec, [noise(16000)], 16000, dtype="float16")
    assert half.feats.nbytes * 2 == whole.feats.nbytes
    torch.testing.assert_close(half.feats.float(), whole.feats, atol=1e-3, rtol=1e-3)


def test_the_policy_for_channels(tmp_path):
    import soundfile

    path = tmp_path / "stereo.wav"
    soundfile.write(path, torch.stack([noise(8000), noise(8000, 1)], dim=1).numpy(), 16000)
    with pytest.raises(UserError, match="2 channels"):
        ReferenceSet.from_files(logmel_codec(), [path])
    mixed = ReferenceSet.from_files(logmel_codec(), [path], channels="mix")
    first = ReferenceSet.from_files(logmel_codec(), [path], channels="first")
    assert not torch.allclose(mixed.feats, first.feats)


def test_merge(files):
    codec = logmel_codec()
    parts = [ReferenceSet.from_files(codec, [path]) for path in files]
    merged, whole = ReferenceSet.merge(parts), ReferenceSet.from_files(codec, files)
    assert torch.equal(merged.feats, whole.feats)
    assert (merged.files, merged.seconds) == (whole.files, whole.seconds)
    merged.check_codec(codec)
    with pytest.raises(UserError, match="different encoders"):
        ReferenceSet.merge([parts[0], ReferenceSet(parts[1].feats)])
    with pytest.raises(UserError, match="no sets"):
        ReferenceSet.merge([])


# -- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_save_and_load(tmp_path, files, dtype):
    codec = golden_codec("tiny_50hz")
    reference = ReferenceSet.from_files(codec, files, dtype=dtype)
    reference.save(tmp_path / "new" / "a.safetensors")
    again = ReferenceSet.load(tmp_path / "new" / "a.safetensors")
    assert torch.equal(again.feats, reference.feats)
    for name in ("encoder", "sample_rate", "seconds", "files", "version"):
        assert getattr(again, name) == getattr(reference, name)
    again.check_codec(codec)
    queries = torch.randn(5, codec.encoder.dim)
    assert torch.equal(again.nearest(queries, 4), reference.nearest(queries, 4))


def test_a_loaded_set_is_memory_mapped(tmp_path):
    """One frame of a file of 128 MB is read without the rest."""
    feats = torch.zeros(2**17, 256)
    ReferenceSet(feats, {"float32": "0"}).save(tmp_path / "big")
    code = """
import resource, sys
from focalcodec.conversion import ReferenceSet
def anonymous():
    return sum(int(x.split()[1]) for x in open('/proc/self/status') if x.startswith('RssAnon'))
before = anonymous()
reference = ReferenceSet.load(sys.argv[1])
print(reference.feats[77].sum().item(), anonymous() - before)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("platform: reads /proc")
    out = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "big"], capture_output=True, text=True, check=True
    )
    total, kilobytes = out.stdout.split()
    assert float(total) == 0
    assert int(kilobytes) < 40_000


def test_bare_feats_are_not_saved(tmp_path):
    with pytest.raises(UserError, match="bare feats"):
        ReferenceSet(torch.randn(5, 4)).save(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match="no such file"):
        ReferenceSet.load(path)
    ReferenceSet.from_sigs(logmel_codec(), [noise(16000)], 16000).save(path)
    whole = path.read_bytes()
    for content in (b"", whole[:5], whole[:200], whole[:-1], b"\xff" * 300):
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            ReferenceSet.load(path)
    save_file({"feats": torch.randn(3, 4)}, path)
    with pytest.raises(UserError, match="not a reference set"):
        ReferenceSet.load(path)


@pytest.mark.parametrize(
    "change",
    [
        *({"encoder": "{"}, {"seconds": "x"}, {"sample_rate": ""}, {"files": None}),
        *({"encoder": "[1]"}, {"files": "5"}, {"files": "[" * 10**5}),
    ],
)
def test_damaged_metadata_is_refused(tmp_path, change):
    path = tmp_path / "a"
    ReferenceSet.from_sigs(logmel_codec(), [noise(16000)], 16000).save(path)
    with safe_open(path, framework="pt") as file:
        about, feats = file.metadata(), file.get_tensor("feats").clone()
    about = {key: value for key, value in (about | change).items() if value is not None}
    save_file({"feats": feats}, path, about)
    with pytest.raises(UserError, match="damaged"):
        ReferenceSet.load(path)


def test_nan_in_a_file_is_refused(tmp_path):
    path = tmp_path / "a"
    made = ReferenceSet.from_sigs(logmel_codec(), [noise(16000)], 16000)
    made.feats[3, 3] = torch.nan
    made.save(path)
    with pytest.raises(UserError, match="NaN"):
        ReferenceSet.load(path)


# -- the encoder of a set -----------------------------------------------------------------------


def wavlm_codec(seed):
    torch.manual_seed(seed)
    encoder = WavLM(hidden_dims=[8] * 7, num_layers=1, dim=16, ffn_dim=32, num_heads=2)
    return FocalCodec(
        encoder,
        FocalEncoder(16, 3, [8], [1]),
        BinarySphericalQuantizer(8),
        FocalDecoder(3, 16, [8], [1]),
        Vocos(16, num_layers=1, dim=8, ffn_dim=16),
    ).eval()


def test_another_encoder_is_refused(tmp_path):
    reference = ReferenceSet.from_sigs(wavlm_codec(0), [noise(8000)], 16000)
    reference.save(tmp_path / "a")
    for made in (reference, ReferenceSet.load(tmp_path / "a")):
        made.check_codec(wavlm_codec(0))  # the same weights, another object
        with pytest.raises(UserError, match="another encoder"):
            made.check_codec(wavlm_codec(1))
        with pytest.raises(UserError, match="16 values, expected 80"):
            made.check_codec(logmel_codec())


# -- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feats", "message"),
    [
        (torch.randn(5), "give float feats"),
        (torch.randn(1, 5, 4), "give float feats"),
        (torch.randn(0, 4), "at least one frame"),
        (torch.ones(5, 4, dtype=torch.int64), "give float feats"),
        (torch.full((5, 4), torch.nan), "NaN or infinite"),
        (torch.full((5, 4), 1e5).half(), "use float32"),
    ],
)
def test_bad_feats(feats, message):
    with pytest.raises(UserError, match=message):
        ReferenceSet(feats)


@pytest.mark.parametrize(
    ("sigs", "message"),
    [
        ([], "no signals"),
        ([torch.randn(1, 16000)], "reference 0: shape"),
        ([torch.randn(16000), torch.randn(0)], "empty"),
        ([torch.randn(100)], "100 samples, less than a frame"),
        ([torch.full((16000,), torch.nan)], "NaN"),
        ([torch.ones(16000, dtype=torch.int16)], "int16"),
    ],
)
def test_bad_sigs(sigs, message):
    with pytest.raises(UserError, match=message):
        ReferenceSet.from_sigs(logmel_codec(), sigs, 16000)


def test_bad_files(tmp_path, files):
    codec = logmel_codec()
    with pytest.raises(UserError, match="no files"):
        ReferenceSet.from_files(codec, [])
    with pytest.raises(UserError, match=r"no\.wav: no such file"):
        ReferenceSet.from_files(codec, [*files, tmp_path / "no.wav"])
    write_audio(tmp_path / "short.wav", noise(50), 16000)
    with pytest.raises(UserError, match=r"short\.wav: 50 samples"):
        ReferenceSet.from_files(codec, [*files, tmp_path / "short.wav"])
    with pytest.raises(UserError, match="dtype='int8'"):
        ReferenceSet.from_files(codec, files, dtype="int8")


def test_metadata_is_readable_without_this_package(tmp_path, files):
    ReferenceSet.from_files(logmel_codec(), files).save(tmp_path / "a")
    with safe_open(tmp_path / "a", framework="pt") as file:
        about = file.metadata()
    assert json.loads(about["files"]) == [str(path) for path in files]
    assert len(json.loads(about["encoder"])["float32"]) == 64
