"""Write what the page needs from the package: codecs as ONNX with their list, and clips.

    python web/prepare.py web/public

`make web` runs it before it builds the page. A codec that was exported before is exported again
only if its weights have changed.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from focalcodec import FocalCodec
from focalcodec.choices import WINDOW_SECONDS
from focalcodec.hub import DEMO, shipped
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.long_audio import coding, part_context
from focalcodec.onnx import export_onnx

ROOT = Path(__file__).parents[1]
LISTEN = ROOT / "docs" / "demo" / "listen.html"
EMBEDDED = re.compile(
    r'<audio[^>]*aria-label="(.+?), clip (.+?)" src="data:audio/flac;base64,(.+?)"'
)
CLIPS = 3  # of people who are not in the training data
VERSIONS = {"original": "original", "opus": "opus:6", "codec2": "codec2:1300"}
# Voices to convert to: their clips in the embedded corpus.
VOICES = {"The reader": "LibriSpeech/test-real/91", "Emma (synthetic)": "LibriSpeech/train-mini/13"}


def main(public: Path) -> None:
    """Write codecs, clips and notices into a folder, and their lists."""
    (public / "clips").mkdir(parents=True, exist_ok=True)
    entries = [codec_entry(name, public) for name in shipped()]  # the first is loaded first
    write_json(public / "codecs.json", entries)
    write_json(public / "clips.json", {"clips": clips(public), "voices": voices(public)})
    notices = (ROOT / "corpus" / "NOTICES.md").read_text(encoding="utf-8")
    (public / "NOTICES.txt").write_text(f"{SPEAKERS}\n{notices}", encoding="utf-8")


SPEAKERS = """# The speakers of this page

The first clip is a reader of LibriVox, from the test data of PocketSphinx. The other two are
speakers of CMU ARCTIC. None of them is in the training data of the codec. Emma is bf_emma, a voice
of Kokoro-82M. docs/demo.md says how the codec was made.
"""


def codec_entry(name: str, public: Path) -> dict[str, Any]:
    """Export a codec of the package; its line of codecs.json."""
    codec = FocalCodec.from_pretrained(name)
    folder = public / "codecs" / name
    about = folder / "onnx.json"
    if not about.is_file() or read(about)["weights_sha256"] != weights_sha256(codec):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        export_onnx(codec, folder)
        (folder / "decoder_step.onnx").unlink(missing_ok=True)  # the page decodes whole recordings
    graphs = read(about)["graphs"]
    size = sum(graph["bytes"] for name, graph in graphs.items() if name != "decoder_step")
    return {
        "name": name,
        "title": f"{DEMO}, {codec.token_rate:g} Hz"
        + ("" if codec.latency is None else ", streaming"),
        "folder": f"codecs/{name}/",
        "bytes": size,
        "plans": plans(codec),
    }


def plans(codec: FocalCodec) -> dict[str, Any]:
    """Windows of long recordings, those of `focalcodec.long_audio`."""
    feats_rate = codec.encoder.sample_rate / codec.encoder.hop
    longest = coding.encode_window(codec, WINDOW_SECONDS)
    decompress, fade = coding.decompress_plan(codec, WINDOW_SECONDS)
    windows = {
        "encode": coding.encode_plan(codec, WINDOW_SECONDS),
        "feats": coding.plan_windows(part_context(codec.encoder), feats_rate, longest),
        "decompress": decompress,
        "decode": coding.plan_windows(part_context(codec.decoder), feats_rate, WINDOW_SECONDS),
    }
    return {name: plan._asdict() for name, plan in windows.items()} | {"fade": fade}


def clips(public: Path) -> list[dict[str, Any]]:
    """Write the clips and what other codecs make of them, from the listening page."""
    page = LISTEN.read_text(encoding="utf-8")
    sounds = {(clip, codec): flac for codec, clip, flac in EMBEDDED.findall(page)}
    lines = []
    for clip in chosen({clip for clip, _ in sounds}):
        files = {}
        for version, codec in VERSIONS.items():
            files[version] = f"clips/{clip}.{version}.flac"
            (public / files[version]).write_bytes(base64.b64decode(sounds[clip, codec]))
        lines.append({"name": clip, "title": title(clip), "files": files})
    return lines


def chosen(names: Collection[str]) -> list[str]:
    """Some of the listening page's clips, of as many speakers as there are."""
    speakers = Counter[str]()
    places = {}
    for name in sorted(names):
        speaker = name.split("-")[0]
        places[name] = (speakers[speaker], name)
        speakers[speaker] += 1
    return sorted(sorted(names, key=places.__getitem__)[:CLIPS])


def title(clip: str) -> str:
    """First words of a clip of test-real."""
    speaker, chapter, _ = clip.split("-")
    folder = ROOT / "corpus/LibriSpeech/test-real" / speaker / chapter
    text = (folder / f"{speaker}-{chapter}.trans.txt").read_text(encoding="utf-8")
    texts = dict(line.split(" ", 1) for line in text.splitlines())
    return " ".join(texts[clip].split()[:3]).capitalize() + "…"


def voices(public: Path) -> list[dict[str, Any]]:
    """Copy the clips of voices to convert to."""
    lines = []
    for title, folder in VOICES.items():
        files = sorted((ROOT / "corpus" / folder).rglob("*.flac"))[:8]
        for file in files:
            shutil.copyfile(file, public / "clips" / file.name)
        lines.append({"title": title, "files": [f"clips/{file.name}" for file in files]})
    return lines


def read(path: Path) -> Any:
    """Content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
