"""Choice of the device that models run on."""

from __future__ import annotations

import os

import torch

from focalcodec.errors import UserError


def pick_device(name: str) -> torch.device:
    """Return the device of a name such as cpu or cuda:1; `auto` is a GPU if there is one.

    Raises
    ------
    UserError
        The machine does not have this device.

    Example
    -------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # of the meta device there is no value
    # of any kind: backends that are not installed raise ImportError or AttributeError
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0]
        raise UserError(f"--device {name!r}: not available ({reason}); give cpu") from error
    return device


def set_process_device() -> None:
    """Select a different GPU for each process that torchrun starts on a machine."""
    if "LOCAL_RANK" in os.environ and torch.accelerator.is_available():
        count = torch.accelerator.device_count()
        torch.accelerator.set_device_index(int(os.environ["LOCAL_RANK"]) % count)
