"""Blocks of compressor and decompressor: focal modulation, and what the ablations put instead.

A block maps x (B, N, dim), the contexts of a stream and a mask (B, N) bool to y (B, N, dim) and
further contexts. Only focal modulation has contexts, because only it can be causal. With a mask, a
clip has the same output alone and in any padded batch. `focalcodec.blocks.levels.BLOCKS` has the
names for YAMLs. `HiFiGAN` is the decoder of the same ablations.
"""
