"""A codec as ONNX graphs, for use without PyTorch: `focalcodec.onnx_runtime` runs them.

On the command line: focalcodec export CODEC FOLDER --format onnx. docs/on_device.md describes the
files.
"""

from focalcodec.onnx.export import export_onnx

__all__ = ["export_onnx"]
