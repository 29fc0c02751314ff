"""A codec as ExecuTorch programs, for apps: `.pte` files for the XNNPACK backend.

On the command line: focalcodec export CODEC FOLDER --format executorch. docs/on_device.md describes
the files.
"""

from focalcodec.executorch.export import export_executorch

__all__ = ["export_executorch"]
