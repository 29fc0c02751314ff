"""Folder of an invented evaluation: its audio is tones, its figures are made up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

SAMPLE_RATE = 16000
SECONDS = 1.2
BITS = 4
NASTY_TEXT = '<script>alert(1)</script> "quoted" & more'
NASTY_SPEAKER = 'O\'Neil "Bo" <b>'
OURS, THEIRS = "focal 50 Hz", "R&D codec"
COLUMNS = (
    {"key": "dwer_ear", "title": "dWER, Ear base", "unit": "%", "better": "lower", "judge": "Ear"},
    {"key": "mos_nose", "title": "Nose-MOS", "unit": "MOS", "better": "higher", "judge": "Nose"},
)
SETS = {"made": "synthetic", "spoken": "real"}
TEXTS = (NASTY_TEXT, "seven green apples", "a cold heart", "eleven more")
DWER = {OURS: (8.0, 2.0, 4.0, 6.0), THEIRS: (31.0, 33.0, 30.0, 36.0)}
MOS = {OURS: (3.9, 4.2, 4.1, 4.0), THEIRS: (2.2, 2.4, 2.1, 2.3)}
FIGURES = {
    OURS: {"dwer_ear": (5.0, 2.5, 7.5), "mos_nose": (4.05, 3.95, 4.15)},
    THEIRS: {"dwer_ear": (32.5, 30.5, 34.5), "mos_nose": (2.25, 2.15, 2.35)},
}


def clip_ids(set_name: str) -> list[str]:
    return [f"{set_name}-{place}" for place in range(len(TEXTS))]


def write_run(folder: Path) -> Path:
    """Write two sets of four clips, with two codecs and two judges."""
    for seed, (set_name, kind) in enumerate(SETS.items()):
        _write_set(folder / set_name, kind, seed)
    return folder


def edit(path: Path, **changes: Any) -> None:
    """Change values of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def add_clips_without_output(set_folder: Path, count: int) -> None:
    """Add clips to a set's list that no codec has coded."""
    clips = json.loads((set_folder / "clips.json").read_text())["clips"]
    more = [
        {"id": f"more-{n}", "seconds": 2 + n, "text": f"word{n}", "ref": f"reference/more-{n}.flac"}
        for n in range(count)
    ]
    edit(set_folder / "clips.json", clips=clips + more)


def write_tone(path: Path, pitch: float, seconds: float = SECONDS) -> None:
    """Write a tone that rises and falls in level, as FLAC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(SAMPLE_RATE * seconds)) / SAMPLE_RATE
    swell = 0.2 * np.sin(np.pi * time / seconds)
    soundfile.write(path, swell * np.sin(2 * np.pi * pitch * time), SAMPLE_RATE)


def _write_set(folder: Path, kind: str, seed: int) -> None:
    names = clip_ids(folder.name)
    for place, name in enumerate(names):
        write_tone(folder / "reference" / f"{name}.flac", 200 + 50 * place, SECONDS + 0.1 * place)
    clips = [
        {
            "id": name,
            "speaker": NASTY_SPEAKER if place == 0 else "7",
            "language": "en" if place < 3 else "fr",
            "text": TEXTS[place],
            "seconds": round(SECONDS + 0.1 * place, 1),
            "ref": f"reference/{name}.flac",
        }
        for place, name in enumerate(names)
    ]
    listed = {"name": folder.name, "sha256": f"{seed:064x}", "kind": kind, "clips": clips}
    (folder / "clips.json").write_text(json.dumps(listed))
    for codec, kbps in ((OURS, 0.2), (THEIRS, 1.3)):
        _write_codec(folder / codec.replace("&", "-"), codec, kbps, names, kind)
    toks = np.random.default_rng(seed).integers(0, 2**BITS, (len(names), 60))
    np.savez(folder / OURS / "toks.npz", **dict(zip(names, toks, strict=True)))


def _write_codec(folder: Path, codec: str, kbps: float, names: Sequence[str], kind: str) -> None:
    for place, name in enumerate(names):
        write_tone(folder / "audio" / f"{name}.flac", 220 + 50 * place, SECONDS + 0.1 * place)
    card = {
        "format": 1,
        "task": "resynthesis",
        "set": {"name": folder.parent.name, "count": len(names), "sha256": "", "kind": kind},
        "codec": {
            "name": codec,
            "source": "nowhere",
            "weights_sha256": "0" * 64,
            "kbps": kbps,
            "kbps_entropy": None,
            "token_rate": 50.0,
            "bits": BITS,
            "sample_rate_output": SAMPLE_RATE,
        },
        "panel": "offline",
        "columns": COLUMNS,
        "judges": {"Ear": {"version": "1"}, "Nose": {"version": "2", "weights_sha256": "ab"}},
        "missing": ["Tongue: pip install tongue"],
        "figures": {
            key: {"value": value, "low": low, "high": high, "count": len(names)}
            for key, (value, low, high) in FIGURES[codec].items()
        },
        "clips": [
            {
                "id": name,
                "scores": {"dwer_ear": [dwer, 3.0], "mos_nose": [mos, 1.0]},
                "transcripts": {"Ear": f"{TEXTS[place]} indeed"},
            }
            for place, (name, dwer, mos) in enumerate(
                zip(names, DWER[codec], MOS[codec], strict=True)
            )
        ],
        "usage": {"codes_used": 16, "codebook_size": 16, "entropy_seen": 0.97}
        if kbps < 1
        else None,
        "speed": {"encode_rtf": 0.1, "decode_rtf": 0.2, "device": "cpu", "threads": 1},
        "seed": 0,
        "bootstrap_samples": 50,
        "versions": {"torch": "2.13.0"},
        "hardware": {"cpu": "none"},
        "created": "2026-01-02T03:04:05+00:00",
        "command": "focalcodec eval <made up> & nothing else",
    }
    (folder / "card.json").write_text(json.dumps(card))
