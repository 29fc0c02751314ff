"""Find, download and write checkpoints, and identify them by hashes."""
