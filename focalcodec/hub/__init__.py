"""Checkpoints: found, downloaded, written, and identified by hashes."""
