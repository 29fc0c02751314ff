"""Frozen encoders: sig to feats."""
