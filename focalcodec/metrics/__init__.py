"""Judges of resynthesised speech, one a file; their models come from installed packages."""
