"""Models as files; here, where they are: in the package, in a folder, on the Hugging Face hub.

Only this module downloads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from focalcodec.errors import UserError, one_line

# -- the codecs of the package ---------------------------------------------------------------------

MODELS = Path(__file__).parents[1] / "models"
DEMO = "demo"
NAMES = (DEMO, "demo-25hz", "demo-stream")
"""Names for codecs of the package, whose folders are in `MODELS`; see `shipped`."""
TTS_FOLDER = MODELS / "tts"
"""Text to speech, if this version of the package has one."""


def shipped() -> list[str]:
    """Names of the codecs that this version of the package has."""
    return [name for name in NAMES if any((MODELS / name).glob("*.safetensors"))]


def shipped_text() -> str:
    """The same in one text, for messages."""
    return ", ".join(shipped()) or "none"


def is_shipped(source: str | os.PathLike[str]) -> bool:
    """Whether a model's name is one of `NAMES`.

    The name means this codec in every working folder, also if this version of the package does not
    have it; write `./demo` or use a `Path` for a folder that is called demo.
    """
    return isinstance(source, str) and source in NAMES


def shipped_folder(name: str, revision: str | None = None) -> Path:
    """Folder of a codec of the package.

    Raises a `UserError` if this installation lacks it, or for a revision, because the version of
    the package determines the codec.
    """
    if revision is not None:
        raise UserError(f"{name}: comes with the package, without revisions; leave out {revision}")
    if name not in shipped():
        raise UserError(
            f"{name}: not in this installation ({MODELS / name}), which has {shipped_text()};"
            " install focalcodec again, or give one of these, the folder of a codec, such as"
            f" ./{name}, or a hub repository"
        )
    return MODELS / name


def named_folder(source: str | os.PathLike[str]) -> Path:
    """Path for a name: that of a codec of the package, or of a folder, which may not exist."""
    return MODELS / source if is_shipped(source) else Path(source).expanduser()


def model_name(source: str | os.PathLike[str]) -> str:
    """Name of a model in token files and results: its source, or the name of a local folder."""
    folder = Path(source).expanduser()
    return folder.resolve().name if folder.is_dir() and not is_shipped(source) else str(source)


# -- the hub ---------------------------------------------------------------------------------------


def hub_folder(
    name: str,
    patterns: Sequence[str],
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    **options: Any,
) -> Path:
    """Folder in the local cache with files of one commit of a repository on the hub.

    Downloads the files of the shell patterns that are missing. Without a network, with
    `HF_HUB_OFFLINE=1` or with `local_files_only`, only the cache is used, and at once: some of the
    files may then be missing. `name` is owner/name, `revision` a branch, tag or commit, `token` an
    access token, and `cache_dir` by default that of `huggingface_hub`; `options` are others of
    `snapshot_download`, such as `force_download`. Raises a `UserError` if neither the hub nor the
    cache has the repository or the revision.
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
            **options,
        )
    except TypeError as error:
        raise UserError(f"{', '.join(options)}: {error}; leave it out") from error
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise _refusal(name, revision, error) from error
    return Path(folder)


def hub_problem(name: str, seconds: float = 5.0) -> str:
    """The reason why the hub can't give a repository now, in one line; empty if it can.

    `seconds` is the longest wait for the answer.
    """
    from huggingface_hub import HfApi

    problems = [f"no answer within {seconds:g} s"]

    def ask() -> None:
        try:
            HfApi().model_info(name, timeout=seconds)
            problems.append("")
        # for any reason, such as a wrong proxy, the model can't be downloaded
        except Exception as error:
            problems.append(_reason(error))

    # in a thread, because the look-up of the address and later trials have no time limit
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return problems[-1]


def _reason(error: Exception) -> str:
    # the first sentence is the problem; the rest is advice on settings of huggingface_hub
    return one_line(error).split(". ")[0]


def _refusal(name: str, revision: str | None, error: Exception) -> UserError:
    where, option = ("", "") if revision is None else (f" at {revision}", f" --revision {revision}")
    return UserError(
        f"{name}: no such folder, not in the hub's cache{where}, and the hub gave none"
        f" ({_reason(error)}); check name and network, or give a local folder: for a codec, on a"
        f" machine with a network, focalcodec download {name}{option} --to FOLDER makes one, for"
        " --model FOLDER"
    )
