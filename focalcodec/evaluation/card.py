"""Result card: the figures of one codec on one set, and everything that they depend on."""

from __future__ import annotations

import json
import os
import platform
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from focalcodec import __version__
from focalcodec.coders import CodecSpec
from focalcodec.data.manifest import write_csv
from focalcodec.errors import UserError
from focalcodec.evaluation import (
    CodecFolder,
    EvaluationPlan,
    Loaded,
    coded_key,
    digest,
    score_key,
    write_json,
)
from focalcodec.evaluation.intervals import Figure, figure, jackknife
from focalcodec.evaluation.sets import ClipSet
from focalcodec.evaluation.speed import measure_speed, read_speed
from focalcodec.files import atomic_path, safe_file_name
from focalcodec.metrics.codes import CodebookUsage, code_usage, coded_bits, count_codes, kbps

FORMAT = 1
PACKAGES = ("torch", "numpy", "transformers", "soxr", "soundfile")
WITH_INTERVALS = ("usage_reachable", "entropy_reachable")
_MOST_GROUPS = 200
# of what the hashes in a card are
HASHES = {
    "set.sha256": "list of clips: id, audio, speaker, language and text of each",
    "clips.sha256": "audio files of the clip",
    "codec.weights_sha256": "configuration and tensors of the codec, as focalcodec info shows it;"
    " of a codec of transformers, its .safetensors files",
    "judges.weights_sha256": "file of the judge's weights",
}


def finish_card(
    plan: EvaluationPlan, clip_set: ClipSet, spec: CodecSpec, loaded: Loaded
) -> dict[str, Any] | None:
    """Write and return the card of a codec on a set, and write its tokens and transcripts.

    Return None, and write nothing, while other processes work on its clips.
    """
    folder = CodecFolder(plan.out, clip_set, spec)
    coder = loaded.coders[spec.label]
    coded = folder.coded(coded_key(plan, clip_set, coder))
    judged = {
        judge["name"]: folder.scores(
            safe_file_name(judge["name"]), score_key(plan, clip_set, coder, judge)
        )
        for judge in loaded.judges
    }
    ids = {clip.id for clip in clip_set.clips}
    # Other processes may still code or score some clips.
    if any(ids - records.keys() for records in (coded, *judged.values())):
        return None
    clips = [_clip_row(clip, judged) for clip in clip_set.clips]
    card = {
        "format": FORMAT,
        "task": plan.task,
        "set": {
            "name": clip_set.name,
            "count": len(clip_set.clips),
            "seconds": round(clip_set.seconds, 3),
            "sha256": clip_set.sha256,
            "kind": clip_set.kind,
        },
        "hashes": HASHES,
        "codec": _codec(clip_set, spec, coder, coded),
        "panel": plan.panel,
        "columns": _columns(loaded, clips),
        "judges": {judge["name"]: judge["describe"] for judge in loaded.judges},
        "missing": loaded.missing,
        "figures": figures(clips, plan.seed, plan.bootstrap_samples),
        "splits": _splits(plan, clip_set, clips),
        "clips": clips,
        "usage": usage_of(coded, coder),
        "speed": _speed(plan, spec, coder),
        "seed": plan.seed,
        "bootstrap_samples": plan.bootstrap_samples,
        "versions": software_versions(),
        "hardware": hardware(plan.device),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": plan.command,
    }
    _write_toks(folder, coded)
    _write_transcripts(folder, clip_set, loaded, clips)
    write_json(folder.card, card)
    return card


def figures(
    clips: Sequence[Mapping[str, Any]], seed: int, bootstrap_samples: int
) -> dict[str, dict[str, float]]:
    """Return the figure and interval of each column, over the clips of a card that have a score.

    A clip may have its `speaker`: `focalcodec.evaluation.intervals` says when speakers are drawn.

    Example
    -------
    >>> figures([{"scores": {"wer": [50.0, 2]}}, {"scores": {"wer": [0.0, 8]}}], 0, 100)["wer"]
    {'value': 10.0, 'low': 0.0, 'high': 50.0, 'count': 2, 'speakers': 0}
    """
    made = {}
    for key in dict.fromkeys(key for clip in clips for key in clip["scores"]):
        scored = [clip for clip in clips if key in clip["scores"]]
        values, weights = zip(*(clip["scores"][key] for clip in scored), strict=True)
        speakers = [clip.get("speaker", "") for clip in scored]
        if sum(weights) > 0:
            found = figure(values, weights, seed, bootstrap_samples, speakers=speakers)
            made[key] = asdict(found)
    return made


def usage_of(
    coded: Mapping[str, Mapping[str, Any]], coder: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the use of the codebook of a codec with one stream of tokens, None for others.

    `coded` has the clips' records with `toks`, `coder` has `codebook_size`. The result has the
    fields of `metrics.codes.CodebookUsage`, at most 100 %, and `intervals` of `WITH_INTERVALS` if
    there are two clips or more.

    Example
    -------
    >>> use = usage_of({"a": {"toks": [0, 1, 0, 1]}}, {"codebook_size": 16})
    >>> use["usage_percent"], use["entropy_seen"], use["entropy_codebook"], use["intervals"]
    (12.5, 100.0, 25.0, {})
    """
    clips = [torch.tensor(record["toks"]) for record in coded.values() if record.get("toks")]
    size = coder["codebook_size"]
    if not clips or size is None:
        return None
    codes, counts = count_codes(clips, size)
    whole = code_usage(counts, size)
    usage = {**asdict(whole), "intervals": _usage_intervals(whole, clips, codes, counts)}
    return {**usage, **{name: _percent(usage[name]) for name in WITH_INTERVALS}}


def usage_figure(usage: Mapping[str, Any] | None, name: str) -> Figure | None:
    """Return a figure of `usage_of` with its interval; None if there is none.

    It is at most 100 %. In cards of earlier versions it can be higher: by chance, a set may have
    more codes than equally likely codes have on average.

    Example
    -------
    >>> use = {"usage_reachable": 101.0, "intervals": {"usage_reachable": [97.0, 105.0]}}
    >>> usage_figure(use, "usage_reachable")
    Figure(value=100.0, low=97.0, high=100.0, count=0, speakers=0)
    """
    value = (usage or {}).get(name)
    if usage is None or not isinstance(value, int | float):
        return None
    low, high = (usage.get("intervals") or {}).get(name) or (value, value)
    return Figure(_percent(value), _percent(low), _percent(high), 0)


def software_versions() -> dict[str, str]:
    """Return the versions of Python, this package and the packages that figures depend on."""
    found = {"python": platform.python_version(), "focalcodec": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: str) -> dict[str, Any]:
    """Describe the machine that computes a card."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        cpu = names[0] if names else cpu
    kind = torch.device(device).type
    accelerator = torch.cuda.get_device_name(device) if kind == "cuda" else None
    return {
        "system": platform.system(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "device": device,
        "accelerator": accelerator,
    }


def _clip_row(clip: Any, judged: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    transcripts = {}
    for judge, records in judged.items():
        scores.update(records[clip.id]["scores"])
        # Records of earlier versions have the key "heard".
        transcript = records[clip.id].get("transcript", records[clip.id].get("heard"))
        if transcript:
            transcripts[judge] = transcript
    return {
        "id": clip.id,
        "sha256": clip.sha256,
        "speaker": clip.speaker,
        "scores": scores,
        "transcripts": transcripts,
    }


def _codec(
    clip_set: ClipSet,
    spec: CodecSpec,
    coder: Mapping[str, Any],
    coded: Mapping[str, Any],
) -> dict[str, Any]:
    bits = [record["bits"] for record in coded.values()]
    measured = None if None in bits else kbps(sum(bits), clip_set.seconds)
    return {
        "name": spec.label,
        "source": coder["source"],
        "weights_sha256": coder["weights_sha256"],
        "kbps": measured if coder["kbps"] is None else coder["kbps"],
        "kbps_measured": measured,
        "kbps_entropy": _entropy_coded(clip_set, coder, coded),
        "token_rate": coder["token_rate"],
        "bits": coder["bits"],
        "sample_rate_output": coder["sample_rate_output"],
        "settings": coder["settings"],
    }


def _columns(loaded: Loaded, clips: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the columns that at least one clip has a score in."""
    scored = {key for clip in clips for key in clip["scores"]}
    return [c for judge in loaded.judges for c in judge["columns"] if c["key"] in scored]


def _splits(
    plan: EvaluationPlan, clip_set: ClipSet, clips: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the figures of each language, if there is more than one."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for clip, row in zip(clip_set.clips, clips, strict=True):
        groups.setdefault(clip.language, []).append(row)
    if len(groups) < 2:
        return {}
    made = {
        name: figures(some, plan.seed, plan.bootstrap_samples)
        for name, some in sorted(groups.items())
    }
    return {"language": made}


def _speed(plan: EvaluationPlan, spec: CodecSpec, coder: dict[str, Any]) -> dict[str, Any] | None:
    """Return the speed of a codec, measured once in a run, on clips of the first set."""
    first = plan.sets[0]
    path = CodecFolder(plan.out, first, spec).path / "records" / "speed.json"
    key = digest(coded_key(plan, first, coder), plan.device)
    with suppress(OSError, ValueError, TypeError, KeyError):  # none yet, or a damaged record
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["key"] == key:
            return read_speed(known)
    if not plan.speed_clips or spec.kind == "original":
        return None
    speed = measure_speed(plan, first, spec)
    write_json(path, {"key": key, "speed": speed})
    return speed


def _write_toks(folder: CodecFolder, coded: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the tokens of each clip, by the name of its audio file, for `numpy.load`."""
    files = {clip.id: clip.file for clip in folder.clip_set.clips}
    rows = {files[name]: record["toks"] for name, record in coded.items() if "toks" in record}
    # An earlier codec of the same name may have left tokens.
    (folder.path / "toks.npz").unlink(missing_ok=True)
    if not rows:
        return
    # numpy.savez can't write an array with the name "file"
    with (
        atomic_path(folder.path / "toks.npz") as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, toks in rows.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.array(toks, dtype=np.int32))


def _write_transcripts(
    folder: CodecFolder, clip_set: ClipSet, loaded: Loaded, clips: Sequence[Mapping[str, Any]]
) -> None:
    judges = [
        judge["name"]
        for judge in loaded.judges
        if any(judge["name"] in c["transcripts"] for c in clips)
    ]
    rows = [
        {"ID": clip.id, "text": clip.text}
        | {name: row["transcripts"].get(name, "") for name in judges}
        for clip, row in zip(clip_set.clips, clips, strict=True)
    ]
    if judges:
        write_csv(folder.path / "transcripts.csv", ["ID", "text", *judges], rows)


def _entropy_coded(
    clip_set: ClipSet, coder: Mapping[str, Any], coded: Mapping[str, Any]
) -> float | None:
    """Return the bitrate after the entropy coder of token files, kbit/s; None without tokens."""
    clips = [torch.tensor(record["toks"]) for record in coded.values() if "toks" in record]
    if not clips or not coder["bits"]:
        return None
    try:
        return kbps(sum(coded_bits(clips, coder["bits"])), clip_set.seconds)
    except UserError:  # the coder's package is not installed
        return None


def _percent(value: float) -> float:
    return min(max(float(value), 0.0), 100.0)


def _usage_intervals(
    whole: CodebookUsage, clips: Sequence[Tensor], codes: Tensor, counts: Tensor
) -> dict[str, list[float]]:
    groups = min(len(clips), _MOST_GROUPS)
    if groups < 2:
        return {}
    others = []
    # Each group of clips is left out once.
    for first in range(groups):
        toks = torch.cat([*clips[first::groups]]).long()
        own = torch.searchsorted(codes, toks).bincount(minlength=len(codes))
        others.append(code_usage(counts - own, whole.codebook_size))
    return {
        name: [
            _percent(bound)
            for bound in jackknife(getattr(whole, name), [getattr(other, name) for other in others])
        ]
        for name in WITH_INTERVALS
    }
