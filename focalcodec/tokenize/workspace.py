"""The folder that a corpus is tokenized into: what it is for, what is done, who may change it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock

from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.tokenize.plan import Plan
from focalcodec.tokenize.store import INDEX_NAME, META_NAME, ROWS_NAME, TOKS_NAME

PLAN_NAME, FAILED_NAME, PARQUET_NAME = "plan.json", "failed.csv", "parquet"
_WORK = ".parts-"  # and the plan's digest: a process of another plan can't write among these


class Workspace:
    """Output folder of one plan, shared by all the processes that work at it.

    Parameters
    ----------
    out : Path
        Output folder.
    plan : Plan
        What is to be done.
    """

    def __init__(self, out: Path, plan: Plan) -> None:
        self.out, self.plan = out, plan
        self.work = out / f"{_WORK}{plan.digest[:16]}"

    @property
    def lock(self) -> FileLock:
        """Held by one process at a time, and by none once that was killed."""
        return FileLock(self.out / ".lock")

    def open(self, overwrite: bool) -> None:
        """Make the folder, or go on in it.

        Parameters
        ----------
        overwrite : bool
            Remove what another plan left there; what this plan left is always kept.

        Raises
        ------
        UserError
            Of another plan, or not empty and of none.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        with self.lock:
            difference = self._difference()
            if difference and not overwrite:
                raise UserError(
                    f"{self.out}: made with {difference}; give another folder, or --overwrite"
                )
            if difference:
                self._clear()
            if not (self.out / PLAN_NAME).is_file():
                with atomic_path(self.out / PLAN_NAME) as temporary:
                    temporary.write_text(json.dumps(self.plan.key, indent=2) + "\n")

    def part(self, number: int) -> Path:
        """File of a finished part."""
        return self.work / f"{number:06d}.part"

    def parts_left(self) -> int:
        """Parts that have no file yet."""
        done = {path.name for path in self.work.glob("[0-9]*.part")}
        return sum(self.part(number).name not in done for number in range(self.plan.parts))

    def meta(self) -> dict[str, Any] | None:
        """What `meta.json` says, once all is done."""
        path = self.out / META_NAME
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def publish(self, folder: Path, meta: dict[str, Any]) -> None:
        """Move finished output to its place; `meta.json`, last, says that it is whole."""
        for path in sorted(folder.iterdir()):
            place = self.out / path.name
            if place.is_dir():
                shutil.rmtree(place)
            os.replace(path, place)
        with atomic_path(self.out / META_NAME) as temporary:
            temporary.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")

    def remove_parts(self) -> None:
        """Remove the parts, which the finished output has taken in."""
        shutil.rmtree(self.work, ignore_errors=True)

    def _difference(self) -> str:
        """What the folder was made with instead; empty where it is new or of this plan."""
        path = self.out / PLAN_NAME
        if not path.is_file():
            others = [x.name for x in self.out.iterdir() if not x.name.startswith(".")]
            if others:
                raise UserError(
                    f"{self.out}: not empty ({min(others)}) and not of this command; give"
                    " another folder"
                )
            return ""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            names = [name for name, value in self.plan.key.items() if found.get(name) != value]
        except (ValueError, AttributeError):
            return "a plan.json that can't be read"
        if not names:
            return ""
        name = names[0]
        return f"{name}={_short(found.get(name))}, not {_short(self.plan.key[name])}"

    def _clear(self) -> None:
        # the plan goes last: what is left of a kill in between is refused again, or cleared
        for name in (META_NAME, TOKS_NAME, INDEX_NAME, ROWS_NAME, FAILED_NAME):
            (self.out / name).unlink(missing_ok=True)
        for folder in (self.out / PARQUET_NAME, *self.out.glob(f"{_WORK}*")):
            shutil.rmtree(folder, ignore_errors=True)
        (self.out / PLAN_NAME).unlink()


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value)
