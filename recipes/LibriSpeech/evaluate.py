"""Evaluate codecs on LibriSpeech or LibriTTS; the YAML says which sets, codecs and judges.

python evaluate.py hparams/resynthesis.yaml --data_folder /data/LibriSpeech --codecs "[my_codec]"
python evaluate.py hparams/resynthesis_mini.yaml --codecs "[results/quickstart/codec, opus:6]"
torchrun --nproc_per_node 4 evaluate.py hparams/resynthesis.yaml --data_folder /data/LibriSpeech
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from librispeech_prepare import prepare_librispeech

from focalcodec.cli.eval import show
from focalcodec.cli.options import pick_device, take_device
from focalcodec.compat import ensure_torchaudio
from focalcodec.data.embedded import embedded_corpus
from focalcodec.errors import UserError
from focalcodec.evaluation.clips import ClipSet, SetOptions, read_sets
from focalcodec.evaluation.codecs import parse_specs
from focalcodec.evaluation.plan import Plan
from focalcodec.evaluation.run import evaluate, load_panel_judges
from focalcodec.files import atomic_path
from focalcodec.tokenize.plan import Shard
from focalcodec.training.config import load_config, refuse_dead_keys, resolve_config
from focalcodec.training.experiment import run_script

ensure_torchaudio()
import speechbrain as sb  # noqa: E402

READ_KEYS = frozenset(
    """
    data_folder sets skip_prep max_broken_share max_clips task codecs panel output_folder report
    seed bootstrap_samples batch_seconds window_seconds speed_clips jobs device
    """.split()
)


def main(argv: Sequence[str]) -> None:
    """Prepare the manifests, evaluate, print the tables."""
    file, _, overrides = sb.parse_arguments(list(argv))
    hparams = load_config(file, overrides)
    refuse_dead_keys(file, READ_KEYS)
    if not hparams["codecs"]:
        raise UserError('codecs: none; give some, e.g. --codecs "[results/my_codec, opus:6]"')
    out = Path(hparams["output_folder"])
    with atomic_path(out / "hyperparams.yaml") as path:
        path.write_text(resolve_config(file, overrides), encoding="utf-8")
    take_device()
    plan = Plan(
        sets=tuple(prepare_sets(hparams, out / "manifests")),
        codecs=parse_specs(codec_words(hparams["codecs"])),
        out=out,
        device=str(pick_device(hparams["device"])),
        command=shlex.join(["python", *sys.argv]),
        **{
            key: hparams[key]
            for key in ("task", "panel", "seed", "bootstrap_samples", "speed_clips")
            + ("batch_seconds", "window_seconds")
        },
    )
    shard = Shard.from_environment(os.environ)
    show(plan, evaluate(plan, load_panel_judges, shard, hparams["jobs"]), hparams["report"])


def codec_words(codecs: Sequence[str | Mapping[str, str]]) -> list[str]:
    """Names of codecs as `focalcodec eval` has them: a mapping gives them labels."""
    words = []
    for codec in codecs:
        pairs = codec.items() if isinstance(codec, Mapping) else [("", codec)]
        words += [f"{label}={name}" if label else str(name) for label, name in pairs]
    return words


def prepare_sets(hparams: Mapping[str, Any], manifests: Path) -> list[ClipSet]:
    """Sets of clips, by the manifests of their splits or by manifests of the user's own."""
    sets = hparams["sets"]
    data_folder = hparams["data_folder"] or embedded_corpus("LibriSpeech")
    for about in sets:
        known = {"name", "splits", "manifest", "kind", "language"}
        if not {"name"} <= about.keys() <= known or ("splits" in about) == ("manifest" in about):
            raise UserError(
                f"sets: {dict(about)}; give name, splits or manifest, and if need be kind"
                " (synthetic or real) and language"
            )
    splits = {about["name"]: about["splits"] for about in sets if "splits" in about}
    if splits:
        options = {key: hparams[key] for key in ("skip_prep", "max_broken_share")}
        prepare_librispeech(data_folder, manifests, extra_sets=splits, **options)
    found = []
    for about in sets:
        options = SetOptions(
            task=hparams["task"],
            data_folder=str(data_folder),
            kind=about.get("kind", ""),
            language=about.get("language", "en"),
            seed=hparams["seed"],
            max_clips=hparams["max_clips"],
        )
        name = about["name"]
        found += read_sets(about.get("manifest", manifests / f"{name}.csv"), options, name)
    return found


if __name__ == "__main__":
    run_script(main)
