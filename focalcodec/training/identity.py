"""What a run folder was started with: a changed knob is honoured or refused, never ignored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from focalcodec.errors import UserError
from focalcodec.files import atomic_path

KNOBS_NAME = "knobs.json"

HONOURED = frozenset(
    {
        "number_of_epochs",
        "stop_patience_epochs",
        "sample_interval_epochs",
        "sample_clips",
        "ckpt_interval_minutes",
        "ckpt_interval_steps",
        "num_workers",
        "skip_prep",
        "data_folder",
        "nonfinite_patience",
        "feature_cache",
        "output_folder",
        "decoder_source",
        "valid_batch_size",
    }
)
"""Knobs that a resumed run takes over in their new value; they do not change a step's result."""


def knobs_of(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Scalars of a resolved YAML tree, with dotted names.

    Example
    -------
    >>> dict(knobs_of({"lr": 0.1, "model": {"dims": [1, 2]}}))
    {'lr': 0.1, 'model.dims': [1, 2]}
    """
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from knobs_of(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list) and any(isinstance(item, (Mapping, list)) for item in tree):
        for index, item in enumerate(tree):
            yield from knobs_of(item, f"{prefix}.{index}")
    elif isinstance(tree, list):
        yield prefix, [_plain(item) for item in tree]
    else:
        yield prefix, _plain(tree)


def check_identity(run_folder: str | Path, knobs: Mapping[str, Any]) -> bool:
    """Compare a run's knobs with those its folder was started with; store them the first time.

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
    >>> folder = tempfile.mkdtemp()
    >>> check_identity(folder, {"lr": 0.1}), check_identity(folder, {"lr": 0.1})
    (False, True)
    >>> check_identity(folder, {"lr": 0.2})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: ...: started with lr=0.1, now lr=0.2; ...
    """
    path = Path(run_folder) / KNOBS_NAME
    if not path.is_file():
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(dict(knobs), indent=1) + "\n", encoding="utf-8")
        return False
    before = json.loads(path.read_text(encoding="utf-8"))
    for name in sorted(before.keys() | knobs.keys()):
        old, new = before.get(name), json.loads(json.dumps(knobs.get(name)))
        if old == new or name.partition(".")[0] in HONOURED:
            continue
        raise UserError(
            f"{run_folder}: started with {name}={old}, now {name}={new};"
            " go back to the old value, or choose a new output_folder"
        )
    return True


def _plain(value: Any) -> Any:
    # Tagged scalars (!new:, !name:, !ref) stand for their text.
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(getattr(value, "value", value))
