"""Names of devices: one line for each that a machine lacks."""

from __future__ import annotations

import pytest
import torch

from focalcodec.device import pick_device
from focalcodec.errors import UserError


def test_devices_of_every_machine():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", torch.accelerator.current_accelerator() or "cpu")


@pytest.mark.parametrize(
    "name",
    [
        "cuda:99",
        "cuda:",
        "cuda:-1",
        "xpu:99",
        "hpu",
        "privateuseone",
        "meta",
        "nonsense",
        "",
        "a\nb",
    ],
)
def test_devices_that_are_not_there(name):
    with pytest.raises(UserError, match="--device .*: not available .*give cpu") as error:
        pick_device(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("problem", [AttributeError("_cuda_getDeviceCount"), AssertionError("no")])
def test_a_torch_without_cuda(problem, monkeypatch):
    """Old and new builds raise different errors."""

    def fail(*args, **kwargs):
        raise problem

    monkeypatch.setattr(torch, "zeros", fail)
    with pytest.raises(UserError, match="--device 'cuda': not available"):
        pick_device("cuda")
