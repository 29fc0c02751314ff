"""Import torchaudio without its compiled library if that library does not fit torch."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

from focalcodec.errors import UserError

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
            f"torchaudio: can't be imported ({_first_line(second_error)});"
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
    message = f"torchaudio's compiled library could not be loaded: {_first_line(cause)}"

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


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
