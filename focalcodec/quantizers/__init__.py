"""Quantizers beside binary spherical quantization, for the ablations of the paper and others.

All follow `focalcodec.contracts.Quantizer`: a YAML replaces one by another. The lats of a
compressor have norm 1 for the spherical ones, and any norm (`unit_norm: False`) for the others.
"""
