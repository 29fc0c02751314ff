"""The one place that downloads models."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from focalcodec.errors import UserError


def hub_folder(
    name: str,
    patterns: Sequence[str],
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Path:
    """Folder of one commit of a repository on the Hugging Face hub, in the local cache.

    Downloads what is not there yet. Without a network, or with `HF_HUB_OFFLINE=1`, the cache
    alone answers, at once: some of the files may then be missing.

    Parameters
    ----------
    name : str
        Repository, owner/name.
    patterns : sequence of str
        Files to have, as shell patterns.
    revision, token : str, optional
        Branch, tag or commit, and access token.
    cache_dir : str or path, optional
        Default the cache of `huggingface_hub`.
    local_files_only : bool
        Ask the cache only.

    Returns
    -------
    Path
        Folder in the cache: files of one commit.

    Raises
    ------
    UserError
        Neither the hub nor the cache has the repository or the revision.

    Example
    -------
    >>> hub_folder("no/model", ["*"], local_files_only=True)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: no/model: no such folder, not in the hub's cache, and the hub...
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = snapshot_download(
            name,
            revision=revision,
            token=token,
            cache_dir=None if cache_dir is None else Path(cache_dir),
            allow_patterns=list(patterns),
            local_files_only=local_files_only,
        )
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise _refusal(name, revision, error) from error
    return Path(folder)


def hub_problem(name: str, seconds: float = 5.0) -> str:
    """Why the hub can't give a repository now; empty where it can.

    Parameters
    ----------
    name : str
        Repository, owner/name.
    seconds : float
        Longest wait for the answer.

    Returns
    -------
    str
        One line.

    Example
    -------
    >>> hub_problem("no/model") == ""  # in this test the hub is out of reach
    False
    """
    from huggingface_hub import HfApi

    problems = [f"no answer within {seconds:g} s"]

    def ask() -> None:
        try:
            HfApi().model_info(name, timeout=seconds)
            problems.append("")
        # whatever hinders it, a wrong proxy included, the model can't be had
        except Exception as error:
            problems.append(_reason(error))

    # a thread, for nothing bounds the look-up of the hub's address, nor trials after the first
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return problems[-1]


def _reason(error: Exception) -> str:
    # of huggingface_hub's advice on its own settings, the first sentence says what was wrong
    return (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0]


def _refusal(name: str, revision: str | None, error: Exception) -> UserError:
    where, option = ("", "") if revision is None else (f" at {revision}", f" --revision {revision}")
    return UserError(
        f"{name}: no such folder, not in the hub's cache{where}, and the hub gave none"
        f" ({_reason(error)}); check name and network, or give a local folder: for a codec, on a"
        f" machine with a network, focalcodec download {name}{option} --to FOLDER makes one, for"
        " --model FOLDER"
    )
