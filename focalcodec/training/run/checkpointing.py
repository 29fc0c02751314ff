"""Atomic and checked checkpoints, based on SpeechBrain's checkpointer.

The files of a checkpoint are flushed to the disk. Then their SHA-256 are written to
`COMPLETE.json`, in one step and last. A folder without this mark or with another hash is reported
and not used; the checkpoint before it is used.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import save_file
from speechbrain.utils.checkpoints import METAFNAME, Checkpointer
from speechbrain.utils.distributed import ddp_barrier, if_main_process
from torch import nn

from focalcodec.errors import UserError
from focalcodec.files import atomic_path, file_sha256, write_errors
from focalcodec.hub.weights import read_tensors
from focalcodec.training.run.stored import read_stored

logger = logging.getLogger(__name__)

SAVE_NAME = "save"  # folder of the checkpoints in a run's folder
MARK_NAME = "COMPLETE.json"
NEWEST_NAME = "newest.txt"
_OTHER_RUN = "it is from another model: use the YAML of that model, or choose a new output_folder"


class RunCheckpointer(Checkpointer):
    """Checkpointer of a training run.

    Modules are stored as safetensors. Other objects with `state_dict` are stored by `torch.save`
    and read with `weights_only=True`. The methods are those of SpeechBrain's `Checkpointer`.

    Example
    -------
    >>> import tempfile
    >>> folder, module = tempfile.mkdtemp(), nn.Linear(2, 2)
    >>> checkpointer = RunCheckpointer(folder, {"module": module})
    >>> saved = checkpointer.save_checkpoint()
    >>> sorted(path.name for path in saved.path.iterdir())
    ['CKPT.yaml', 'COMPLETE.json', 'module.ckpt']
    >>> (saved.path / "module.ckpt").write_bytes(b"damaged")
    7
    >>> RunCheckpointer(folder, {"module": module}).list_checkpoints()
    []
    """

    def __init__(self, checkpoints_dir: str | Path, recoverables: dict[str, Any] | None = None):
        self._verified: dict[Path, bool] = {}
        super().__init__(checkpoints_dir)
        for name, obj in (recoverables or {}).items():
            self.add_recoverable(name, obj)

    def add_recoverable(
        self,
        name: str,
        obj: Any,
        custom_load_hook: Any = None,
        custom_save_hook: Any = None,
        optional_load: bool = False,
    ) -> None:
        """Register an object; modules and objects with `state_dict` need no hooks."""
        if custom_save_hook is None and isinstance(obj, nn.Module):
            custom_save_hook, custom_load_hook = _save_module, _load_module
        elif custom_save_hook is None and hasattr(obj, "state_dict"):
            custom_save_hook, custom_load_hook = _save_state, _load_state
        super().add_recoverable(name, obj, custom_load_hook, custom_save_hook, optional_load)

    def save_checkpoint(
        self,
        meta: dict[str, Any] | None = None,
        end_of_epoch: bool = True,
        name: str | None = None,
        verbosity: int = logging.INFO,
    ) -> Any:
        """Write a checkpoint; it is valid as soon as its mark is written."""
        try:
            with write_errors(self.checkpoints_dir / "CKPT"):
                saved = super().save_checkpoint(meta or {}, end_of_epoch, name, verbosity)
                if saved is not None:
                    _mark_complete(saved.path)
        except BaseException:
            if if_main_process():
                self._remove_unfinished()  # it needs space that is missing
            raise
        if saved is not None:
            with atomic_path(self.checkpoints_dir / NEWEST_NAME) as path:
                path.write_text(saved.path.name, encoding="utf-8")
            _flush(self.checkpoints_dir)
            self._verified[saved.path] = True
            self._remove_unfinished()
        # Other processes must not read before the mark is written.
        ddp_barrier()
        return saved

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load a checkpoint's state into all objects.

        Raises
        ------
        UserError
            The checkpoint is from another model, or lacks one of the objects.
        """
        for name in self.recoverables:
            if name not in checkpoint.paramfiles and not self.optional_recoverables[name]:
                raise UserError(f"{checkpoint.path}: no {name} in it; {_OTHER_RUN}")
        try:
            super().load_checkpoint(checkpoint)
        except UserError:
            raise
        # the counter and the history of a checkpoint that another program wrote
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(f"{checkpoint.path}: was not written by a run ({reason})") from error

    def save_and_keep_only(
        self,
        *args: Any,
        importance_keys: list[Any] | None = None,
        verbosity: int = logging.INFO,
        **kwargs: Any,
    ) -> None:
        """Same as SpeechBrain's method, but its default list grows with every call."""
        super().save_and_keep_only(
            *args, importance_keys=list(importance_keys or []), verbosity=verbosity, **kwargs
        )
        ddp_barrier()

    def list_checkpoints(self) -> list[Any]:
        """All complete checkpoints; the others are reported."""
        whole = [path for path in self._list_checkpoint_dirs() if self._is_whole(path)]
        for path in whole:
            _check_figures(path / METAFNAME)
        return self._construct_checkpoint_objects(whole)

    def refuse_if_all_damaged(self) -> None:
        """Stop if no checkpoint can be read, so that the run does not overwrite them.

        A first checkpoint that is incomplete because the run was stopped is removed.

        Raises
        ------
        UserError
            There are checkpoints, but none of them is complete.
        """
        folders = self._list_checkpoint_dirs()
        marked = any((folder / MARK_NAME).is_file() for folder in folders)
        if folders and not marked and not (self.checkpoints_dir / NEWEST_NAME).is_file():
            logger.warning(
                "%s: this first checkpoint is incomplete; the run starts from the beginning",
                folders[0],
            )
            self._remove_unfinished()
        elif folders and not self.list_checkpoints():
            raise UserError(
                f"{self.checkpoints_dir}: none of its {len(folders)} checkpoints is complete;"
                " delete the folder to start from the beginning, or restore it from a copy"
            )

    def _list_checkpoint_dirs(self) -> list[Path]:
        return sorted(p for p in self.checkpoints_dir.glob("CKPT*") if p.is_dir())

    def _remove_unfinished(self) -> None:
        for path in self._list_checkpoint_dirs():
            if not (path / MARK_NAME).is_file():
                shutil.rmtree(path)

    def _is_whole(self, path: Path) -> bool:
        if path not in self._verified:
            problem = _find_damage(path)
            self._verified[path] = problem is None
            if problem is not None:
                logger.warning("Checkpoint %s is not used: %s", path, problem)
        return self._verified[path]


def _check_figures(path: Path) -> None:
    """Check the figures of a checkpoint, which may be another person's, before they are read."""
    figures = read_stored(path)
    wrong = [name for name, value in figures.items() if not isinstance(value, (bool, int, float))]
    missing = {"unixtime", "end-of-epoch"} - figures.keys()
    for name in [*wrong, *sorted(missing)]:
        raise UserError(f"{path}: {name}={figures.get(name)!r} is no number; was the file changed?")


def _mark_complete(folder: Path) -> None:
    hashes = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
    for path in folder.iterdir():
        _flush(path)
    unnamed = folder / f"{MARK_NAME}.tmp"
    unnamed.write_text(json.dumps(hashes, indent=1), encoding="utf-8")
    _flush(unnamed)
    os.replace(unnamed, folder / MARK_NAME)
    _flush(folder)


def _find_damage(folder: Path) -> str | None:
    try:
        hashes = json.loads((folder / MARK_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"no {MARK_NAME}: the checkpoint was not completely written"
    except (ValueError, RecursionError):
        return f"{MARK_NAME} is not JSON"
    if not isinstance(hashes, dict):
        return f"{MARK_NAME} is not a list of files and hashes"
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if file_sha256(path) != expected:
            return f"{name} is truncated or changed (SHA-256 differs)"
    return None


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _save_module(module: nn.Module, path: Path) -> None:
    if if_main_process():
        tensors = {name: t.detach().cpu().contiguous() for name, t in module.state_dict().items()}
        save_file(tensors, path)


def _load_module(module: nn.Module, path: Path, end_of_epoch: bool) -> None:
    try:
        module.load_state_dict(read_tensors(path))
    except RuntimeError as error:
        raise _not_fitting(path, module, error) from error


def _save_state(obj: Any, path: Path) -> None:
    if if_main_process():
        torch.save(obj.state_dict(), path)


def _load_state(obj: Any, path: Path, end_of_epoch: bool) -> None:
    try:
        obj.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except UserError:
        raise
    except UnpicklingError as error:
        problem = "holds objects, which may run code, or is damaged; only numbers are read"
        raise UserError(f"{path}: {problem}") from error
    except (RuntimeError, ValueError, KeyError) as error:
        raise _not_fitting(path, obj, error) from error


def _not_fitting(path: Path, obj: Any, error: Exception) -> UserError:
    # torch lists the differences from the second line on, one in each line.
    reason = (str(error).splitlines() or [""])[:2][-1].strip()
    return UserError(f"{path}: does not fit {type(obj).__name__} ({reason}); {_OTHER_RUN}")
