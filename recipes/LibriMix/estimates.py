"""Decode predictions of a token-to-token probe, write them with their references, judge them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from focalcodec.audio import resample, write_audio
from focalcodec.data.clips import read_clip
from focalcodec.data.manifest import DATA_ROOT, write_csv
from focalcodec.evaluation.run import SAMPLE_RATE, describe_judge, load_panel_judges
from focalcodec.files import distinct_file_names
from focalcodec.metrics import panel
from focalcodec.metrics.judge import Judge, JudgedClip
from focalcodec.probes.token_dataset import TokenBatch
from focalcodec.probes.tokens import ProbeCodec
from focalcodec.training.run.loaders import Rows

CardEntry: TypeAlias = "dict[str, Any]"

PARTS = {"wav": "clean", "noisy": "noisy", "estimate": "estimate"}
"""Columns of the manifest, and the folder of each."""
COLUMNS = ["ID", "duration", *PARTS, "spk_id", "wrd"]


class Estimates:
    """Estimates of the clips of a test set, one for each target.

    They are written into the set's folder: `noisy/` (the input), `estimate/` and `clean/` (the
    reference), FLAC at 16 kHz, and `manifest.csv`, which `focalcodec eval` accepts.

    Parameters
    ----------
    codec : ProbeCodec
        Decodes the predicted toks.
    source : str
        Column of the manifests with the input.
    targets : sequence of str
        Columns of the manifests with the references.
    panel_name : str
        Judges, or "none".
    language : str
        Language of clips without a column `language` in their manifest.

    Raises
    ------
    UserError
        There is no such panel.
    """

    def __init__(
        self,
        codec: ProbeCodec,
        source: str,
        targets: Sequence[str],
        panel_name: str,
        language: str,
    ) -> None:
        if panel_name != "none":
            panel(panel_name)  # a wrong name is reported now, not after the training
        self.codec, self.source, self.targets = codec, source, list(targets)
        self.panel_name, self.language = panel_name, language
        self.judges: list[Judge] | None = None
        self.missing: list[str] = []
        self.folder = Path()
        self.chosen: set[str] = set()
        self.files: dict[str, str] = {}

    def start_set(self, folder: Path, rows: Rows, judge_clips: int | None, device: str) -> None:
        """Choose the first clips of a set by ID, or all if `judge_clips` is None; load judges."""
        self.folder = folder
        self.chosen = set(sorted(row["ID"] for row in rows)[:judge_clips])
        names = [str(row["ID"]) for row in rows]
        names += [self._name(row, column) for row in rows for column in self.targets]
        self.files = distinct_file_names(dict.fromkeys(names))
        if self.judges is None:
            self.judges, self.missing = load_panel_judges(self.panel_name, device)

    def describe_judges(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Descriptions of the judges, and a line for each missing judge."""
        return [describe_judge(judge) for judge in self.judges or []], self.missing

    def add(self, batch: TokenBatch, toks: Tensor, entry_of: Callable[[str], CardEntry]) -> None:
        """Decode predicted toks (B, N, targets, streams), write and judge them.

        `entry_of` returns a clip's entry in the card; scores and transcripts are added to it.
        """
        for index, name in enumerate(batch.id):
            if name not in self.chosen:
                continue
            row, end = batch.rows[index], int(batch.lengths[index])
            self._write("noisy", self.files[name], recording(row, self.source))
            pairs = []
            for target, column in enumerate(self.targets):
                streams = toks[index, :end, target]  # (N, Q)
                rec_sig = self.codec.decode(streams[:, 0] if self.codec.streams == 1 else streams)
                rate = self.codec.coder.sample_rate_output
                rec_sig = resample(rec_sig[None], rate, SAMPLE_RATE)[0][0]  # (T,)
                pairs.append(self._pair(row, column, rec_sig))
            self._judge(entry_of(name), pairs)

    def _pair(self, row: Mapping[str, Any], column: str, rec_sig: Tensor) -> JudgedClip:
        """Write and return reference and estimate, which is cut or padded to the reference."""
        sig = recording(row, column)  # (T,)
        rec_sig = torch.nn.functional.pad(rec_sig, (0, max(0, len(sig) - len(rec_sig))))
        rec_sig = rec_sig[: len(sig)].clamp(-1.0, 1.0)
        file = self.files[self._name(row, column)]
        self._write("clean", file, sig)
        self._write("estimate", file, rec_sig)
        language = row.get("language") or self.language
        return JudgedClip(file, sig, rec_sig, SAMPLE_RATE, self._text(row), language)

    def _write(self, part: str, file: str, sig: Tensor) -> None:
        write_audio(self.folder / part / f"{file}.flac", sig, SAMPLE_RATE)

    def _judge(self, entry: CardEntry, pairs: Sequence[JudgedClip]) -> None:
        """Store each figure of a clip; with several targets, the weighted mean over them."""
        for judge in self.judges or []:
            verdicts = judge.score(pairs)
            for key in dict.fromkeys(key for verdict in verdicts for key in verdict.scores):
                scores = [v.scores[key] for v in verdicts if key in v.scores]
                weight = sum(score.weight for score in scores)
                if weight:
                    value = sum(score.value * score.weight for score in scores) / weight
                    entry["scores"][key] = [float(value), float(weight)]
            texts = [verdict.transcript for verdict in verdicts if verdict.transcript]
            if texts:
                entry.setdefault("transcripts", {})[judge.name] = " | ".join(texts)

    def write_manifest(self, rows: Rows, tested: Collection[str]) -> None:
        """Write `manifest.csv`: each reference with its input and its estimate."""
        written = []
        for row in rows:
            if row["ID"] not in self.chosen or row["ID"] not in tested:
                continue
            for column in self.targets:
                file = self.files[self._name(row, column)]
                paths = {k: f"{DATA_ROOT}/{part}/{file}.flac" for k, part in PARTS.items()}
                paths["noisy"] = f"{DATA_ROOT}/noisy/{self.files[row['ID']]}.flac"
                about = {"spk_id": row["spk_id"], "wrd": self._text(row)}
                written.append({"ID": file, "duration": row["duration"], **paths, **about})
        write_csv(self.folder / "manifest.csv", COLUMNS, written)

    def _text(self, row: Mapping[str, Any]) -> str:
        # The manifest of a mixture does not have a text for each speaker.
        return "" if len(self.targets) > 1 else row["wrd"]

    def _name(self, row: Mapping[str, Any], column: str) -> str:
        return str(row["ID"]) + (f"_{column}" if len(self.targets) > 1 else "")


def recording(row: Mapping[str, Any], column: str) -> Tensor:
    """A recording (T,) of a clip at `SAMPLE_RATE`."""
    span = (row["start"], row["stop"]) if "start" in row else None
    return read_clip(row[column], SAMPLE_RATE, span, row.get("channels") or "mix")
