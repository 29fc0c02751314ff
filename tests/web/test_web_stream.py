"""A causal codec on the page: tokens of a stream are those of the session in Python."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from focalcodec.audio import read_audio, resample, write_audio
from focalcodec.fct import read_toks
from focalcodec.onnx_runtime import EncoderSession, OnnxCodec
from tests.unit.small_bundles import bundle, causal_codec, onnx_codec
from tests.web.conftest import Server, microphone, saved, settle
from tests.web.test_web_codec import CLIP, RESAMPLE, ROOT, assert_same_tokens

# Two streams in parts, the first one in another rate; its tokens, and those of the second.
STREAMS = """async ([sig, rate, size]) => {
  const { FocalCodec } = await import('./codec.js');
  const codec = await FocalCodec.load();
  const stream = async (rate) => {
    const toks = [];
    for (let at = 0; at < sig.length; at += size) {
      const part = Float32Array.from(sig.slice(at, at + size));
      toks.push(...(await codec.push({ sig: part, sampleRate: rate })).toks);
    }
    return [...toks, ...(await codec.flush()).toks];
  };
  return [await stream(rate), await stream(16000)];
}"""


def prepared(name: str, public: Path, monkeypatch: Any) -> OnnxCodec:
    """Put the bundle of the small causal codec in place of the codecs of the page."""
    spec = importlib.util.spec_from_file_location("prepare", ROOT / "web" / "prepare.py")
    prepare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    monkeypatch.setattr(prepare, "export_onnx", lambda _, folder: _copy(folder))
    causal_codec().save_pretrained(public / "models" / name)
    monkeypatch.chdir(public / "models")
    entry = prepare.codec_entry(name, public)
    (public / "codecs.json").write_text(json.dumps([entry]), encoding="utf-8")
    assert (public / "codecs" / name / "encoder_step.onnx").stat().st_size < entry["bytes"]
    return onnx_codec("causal")


def _copy(folder: Path) -> None:
    shutil.copytree(bundle("causal"), folder, dirs_exist_ok=True)


def streamed(codec: OnnxCodec, sig: np.ndarray) -> np.ndarray:
    session = EncoderSession(codec)
    return np.concatenate([session.push(sig[None]), session.flush()], axis=1)[0]


def test_streams(
    open_page: Callable[..., Any],
    serve: Callable[[Path], Server],
    copy: Path,
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    """Parts that a page pushes, and the microphone, whose tokens are saved."""
    codec = prepared("tiny", copy, monkeypatch)
    speech = resample(read_audio(CLIP, 16000)[None], 16000, 48000)[0][0]
    write_audio(tmp_path / "spoken.wav", speech, 48000)
    page = open_page(serve(copy), *microphone(tmp_path / "spoken.wav"))
    sig = read_audio(CLIP, 44100)[: 44100 + 77]
    found = page.evaluate(STREAMS, [sig.tolist(), 44100, 3000])
    other = np.array(page.evaluate(RESAMPLE, [sig.tolist(), 44100, 16000]), dtype=np.float32)
    for toks, each in zip(found, (other, sig.numpy()), strict=True):
        assert_same_tokens(np.array(toks), streamed(codec, each), each, causal_codec())

    page.click("#record")
    settle(page, "Recording")
    page.wait_for_timeout(1500)
    page.click("#record")
    settle(page, "Play them")
    header, toks = read_toks(io.BytesIO(saved(page, "#save-tokens")))
    page.keyboard.press("1")  # the original
    sound, rate = soundfile.read(io.BytesIO(saved(page, "#save-sound")), dtype="float32")
    assert rate == header.sample_rate and len(sound) == header.num_samples > rate / 2
    spoken = torch.tensor(page.evaluate(RESAMPLE, [sound.tolist(), rate, 16000])).numpy()
    assert_same_tokens(toks.numpy(), streamed(codec, spoken), spoken, causal_codec())
