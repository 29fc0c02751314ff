"""Evaluate codecs with the sets, codecs and judges of a recipe's YAML."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from focalcodec.coders import parse_specs
from focalcodec.data.clips import write_whole_files
from focalcodec.data.manifest import prepared_names, prepared_root
from focalcodec.errors import UserError
from focalcodec.evaluation import EvaluationPlan
from focalcodec.evaluation.run import evaluate, load_panel_judges, print_outcome
from focalcodec.evaluation.sets import ClipSet, SetOptions, read_sets
from focalcodec.files import atomic_path
from focalcodec.precision import pick_device, set_process_device
from focalcodec.processes import Shard
from focalcodec.training.run import loaders
from focalcodec.training.run.config import resolve_config
from focalcodec.training.run.dead_keys import load_command
from focalcodec.training.run.loaders import prepare_corpus, prepared_folder


def evaluate_recipe(argv: Sequence[str]) -> None:
    """Prepare the manifests, evaluate, print the tables.

    Parameters
    ----------
    argv : sequence of str
        Command line: the YAML, then `--key value` for its knobs.

    Raises
    ------
    UserError
        A knob, a set, a codec or a judge is wrong.
    """
    file, hparams, overrides = load_command(argv, sys.modules[__name__], loaders)
    if not hparams["codecs"]:
        raise UserError('codecs: none; give some, e.g. --codecs "[results/my_codec, opus:6]"')
    out = Path(hparams["output_folder"])
    with atomic_path(out / "hyperparams.yaml") as path:
        path.write_text(resolve_config(file, overrides), encoding="utf-8")
    set_process_device()
    plan = EvaluationPlan(
        sets=tuple(clip_sets(hparams, out / "manifests")),
        codecs=parse_specs(codec_words(hparams["codecs"]), hparams["__trust__"]),
        out=out,
        device=str(pick_device(hparams["device"])),
        command=shlex.join(["python", *sys.argv]),
        task=hparams["task"],
        panel=hparams["panel"],
        seed=hparams["seed"],
        bootstrap_samples=hparams["bootstrap_samples"],
        speed_clips=hparams["speed_clips"],
        batch_seconds=hparams["batch_seconds"],
        window_seconds=hparams["window_seconds"],
    )
    shard = Shard.from_environment(os.environ)
    outcome = evaluate(plan, load_panel_judges, shard, hparams["jobs"])
    print_outcome(plan, outcome)
    if hparams["report"] and outcome.cards is not None:
        from focalcodec.report import write_report

        print(f"\nreport: {write_report(plan.out)}", file=sys.stderr)


def codec_words(codecs: Sequence[str | Mapping[str, str]]) -> list[str]:
    """Codecs in the form of `focalcodec eval`: a mapping gives a codec a name.

    Parameters
    ----------
    codecs : sequence of str or mapping
        Value of `codecs` in the YAML.

    Example
    -------
    >>> codec_words(["opus:6", {"mine": "results/codec"}])
    ['opus:6', 'mine=results/codec']
    """
    words = []
    for codec in codecs:
        pairs = codec.items() if isinstance(codec, Mapping) else [("", codec)]
        words += [f"{label}={name}" if label else str(name) for label, name in pairs]
    return words


def clip_sets(hparams: Mapping[str, Any], manifests: Path) -> list[ClipSet]:
    """Sets of clips: prepared sets by their names, others by their `source`.

    Parameters
    ----------
    hparams : mapping
        The configuration.
    manifests : Path
        Folder for the manifests.

    Raises
    ------
    UserError
        A set is described wrongly, is not prepared, or has no clips.
    """
    for about in hparams["sets"]:
        if not {"name"} <= about.keys() <= {"name", "source", "kind", "language"}:
            raise UserError(
                f"sets: {dict(about)}; give name, and optionally source (your own folder or"
                " manifest), kind (synthetic or real) and language"
            )
    if not all("source" in about for about in hparams["sets"]):
        prepare_corpus(hparams, manifests)
    return [clip_set for about in hparams["sets"] for clip_set in _read(about, hparams, manifests)]


def _read(about: Mapping[str, str], hparams: Mapping[str, Any], manifests: Path) -> list[ClipSet]:
    name, own = about["name"], "source" in about
    folder = prepared_folder(hparams, manifests)
    if own:
        source, data_folder = Path(about["source"]), hparams["data_folder"]
    else:
        source, data_folder = folder / f"{name}.csv", prepared_root(folder)
    if not own and name not in prepared_names(folder):
        there = ", ".join(prepared_names(folder))
        raise UserError(f"sets: {name!r} is not prepared; there are: {there}")
    if not own:
        source = write_whole_files(source, data_folder, manifests / "whole_files")
    options = SetOptions(
        task=hparams["task"],
        data_folder=None if data_folder is None else str(data_folder),
        kind=about.get("kind", ""),
        language=about.get("language", "en"),
        seed=hparams["seed"],
        max_clips=hparams["max_clips"],
    )
    return read_sets(source, options, name)
