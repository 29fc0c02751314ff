"""Codecs side by side on the same clips: coding, judging, result cards, comparison."""
