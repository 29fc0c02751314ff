"""Losses of the two stages; each gives one number a clip or a frame, and the Brain takes means."""
