"""What a run folder was started with: a changed knob is honoured or refused, never ignored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from focalcodec.errors import UserError
from focalcodec.files import atomic_path

KNOBS_NAME = "knobs.json"
SAVE_NAME = "save"

HONOURED = frozenset(
    {
        "number_of_epochs",
        "epoch_counter",
        "stop_patience_epochs",
        "sample_interval_epochs",
        "sample_clips",
        "ckpt_interval_minutes",
        "ckpt_interval_steps",
        "num_workers",
        "skip_prep",
        "data_folder",
        "own_data",
        "more_tests",
        "best_checkpoint",
        "nonfinite_patience",
        "feature_cache",
        "output_folder",
        "decoder_source",
        "valid_batch_size",
        "experiment",
        "token_folder",
        "seeds",
        "bootstrap_samples",
        "panel",
        "judge_clips",
        "beam_size",
    }
)
"""Knobs that a resumed run takes over in their new value; they do not change a step's result. The
epoch counter's only argument is the number of epochs."""

SINCE = {
    "mel_weight": 0.0,
    "mel_crop_frames": 32,
    "mel_loss": "!new:focalcodec.training.multi_mel_loss.MultiMelLoss",
    "replace_encoder": False,
    "speaker_weight": 0.0,
}
"""Knobs that are younger than some runs, as they stand where such a run says nothing of them."""


def knobs_of(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Scalars and tags of a resolved YAML tree, with dotted names.

    Example
    -------
    >>> dict(knobs_of({"lr": 0.1, "model": {"dims": [1, 2]}}))
    {'lr': 0.1, 'model.dims': [1, 2]}
    """
    tag = str(getattr(getattr(tree, "tag", None), "value", None) or "")
    if tag.startswith("!"):
        # A class with the same arguments as another's is not the same.
        yield prefix, " ".join([tag, str(getattr(tree, "value", ""))]).strip()
        if not isinstance(tree, (Mapping, list)):
            return
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from knobs_of(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list) and any(isinstance(item, (Mapping, list)) for item in tree):
        for index, item in enumerate(tree):
            yield from knobs_of(item, f"{prefix}.{index}")
    elif isinstance(tree, list):
        yield f"{prefix}.arguments" if tag.startswith("!") else prefix, list(map(_plain, tree))
    else:
        yield prefix, _plain(tree)


def check_identity(run_folder: str | Path, knobs: Mapping[str, Any]) -> bool:
    """Compare a run's knobs with those its folder's checkpoints were made with.

    Without checkpoints there is nothing to compare with: the knobs are stored.

    Parameters
    ----------
    run_folder : str or Path
        The run's folder.
    knobs : mapping
        From `knobs_of`.

    Returns
    -------
    bool
        Whether the folder holds a run that is taken up again.

    Raises
    ------
    UserError
        A knob that changes the result differs.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> check_identity(folder, {"lr": 0.3})
    False
    >>> (folder / SAVE_NAME / "CKPT+1").mkdir(parents=True)
    >>> check_identity(folder, {"lr": 0.3})
    True
    >>> check_identity(folder, {"lr": 0.2})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: ...: started with lr=0.3, now lr=0.2; ...
    """
    path = Path(run_folder) / KNOBS_NAME
    # Before the first checkpoint nothing was trained that a changed knob could spoil.
    if not path.is_file() or not any((path.parent / SAVE_NAME).glob("CKPT*")):
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(dict(knobs), indent=1) + "\n", encoding="utf-8")
        return False
    before = json.loads(path.read_text(encoding="utf-8"))
    # A decoder that stage 1 learns through changes more than what a person hears.
    honoured = HONOURED - ({"decoder_source"} if knobs.get("mel_weight") else set())
    # The key that a user writes before the places that refer to it.
    for name in sorted(before.keys() | knobs.keys(), key=lambda name: (name.count("."), name)):
        old = before.get(name, SINCE.get(name))
        new = json.loads(json.dumps(knobs.get(name, SINCE.get(name))))
        # What a key with two underscores holds shows again where it is referenced.
        if old == new or name.startswith("__") or name.partition(".")[0] in honoured:
            continue
        raise UserError(
            f"{run_folder}: started with {name}={old}, now {name}={new};"
            " go back to the old value, or choose a new output_folder"
        )
    return True


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
