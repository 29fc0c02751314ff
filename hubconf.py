"""`torch.hub.load(FOLDER, "focalcodec", source="local")`, where FOLDER is this repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

# with other names, because torch.hub lists all that can be called
from focalcodec import FocalCodec as _FocalCodec

if TYPE_CHECKING:
    from typing import Any

dependencies = ["huggingface_hub", "safetensors", "torch"]


def focalcodec(
    config: str = "lucadellalib/focalcodec_50hz",
    pretrained: bool = True,
    overrides: dict[str, Any] | None = None,
    **kwargs: Any,
) -> _FocalCodec:
    """Codec of a configuration, with its weights if `pretrained`; see `FocalCodec.from_config`."""
    return _FocalCodec.from_config(config, pretrained, overrides, **kwargs)
