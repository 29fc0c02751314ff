"""Checkpoints: where they are found, downloaded, written and told apart."""
