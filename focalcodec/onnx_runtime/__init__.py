"""A codec on onnxruntime and NumPy, without PyTorch.

`focalcodec export CODEC FOLDER --format onnx` makes the folder. docs/on_device.md has an example,
sizes and speeds.
"""

from focalcodec.onnx_runtime.codec import OnnxCodec
from focalcodec.onnx_runtime.streaming import DecoderSession, EncoderSession

__all__ = ["DecoderSession", "EncoderSession", "OnnxCodec"]
