"""A codec without torch: its methods, and an interpreter in which torch can't be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import focalcodec.knn
from focalcodec.onnx_runtime.knn import convert_feats, nearest_frames
from tests.unit.closeness import assert_close_to_scale
from tests.unit.small_bundles import bundle, offline_codec, onnx_codec

ROOT = Path(__file__).parents[3]

PROGRAM = """
import sys
for name in ("torch", "safetensors", "huggingface_hub"):
    sys.modules[name] = None
import numpy as np
from focalcodec.onnx_runtime import OnnxCodec
codec = OnnxCodec.from_pretrained(sys.argv[1], threads=1)
sig = np.sin(np.arange(16000, dtype=np.float32) / 20)[None] / 3
toks = codec.sig_to_toks(sig)
reference = codec.sig_to_feats(sig)[0]
print(toks.shape, codec.toks_to_sig(toks).shape, codec.convert(sig, reference, k=1).shape)
"""


def test_without_torch() -> None:
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(bundle("offline"))],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.stdout == "(1, 25) (1, 16000) (1, 16000)\n", process.stderr


def test_conversion() -> None:
    """The neighbours are those of `focalcodec.knn`, equal cosines included."""
    queries, reference = torch.randn(600, 80), torch.randn(700, 80)
    reference[300:600] = reference[:300]
    found = nearest_frames(queries.numpy(), reference.numpy(), 4)
    assert np.array_equal(found, focalcodec.knn.nearest_frames(queries, reference, 4))
    qfeats, lengths = queries.view(2, 300, 80), torch.tensor([300, 120])
    expected = focalcodec.knn.convert_feats(qfeats, lengths, reference)
    converted = convert_feats(qfeats.numpy(), lengths.numpy(), reference.numpy())
    assert_close_to_scale(torch.from_numpy(converted), expected)
    sig = np.random.default_rng(0).normal(size=(2, 8000)).astype(np.float32) / 9
    codec = onnx_codec("offline")
    rec_sig = codec.convert(sig, reference.numpy(), lengths=[8000, 4000])
    alone = codec.convert(sig[:1], reference.numpy())
    assert np.allclose(rec_sig[:1], alone, atol=1e-4) and not rec_sig[1, 4480:].any()


def test_relative_lengths_are_those_of_the_official_package() -> None:
    codec, found = offline_codec(), onnx_codec("offline")
    sig, length = torch.randn(2, 8000) / 9, torch.tensor([1.0, 0.4])
    expected = codec.sig_to_toks(sig, length=length)
    assert np.array_equal(found.sig_to_toks(sig.numpy(), length.numpy())[0], expected[0])
    exact = found.sig_to_toks(sig.numpy(), lengths=np.array([8000, 3200]))
    assert np.array_equal(found.sig_to_toks(sig.numpy(), length.numpy()), exact)
