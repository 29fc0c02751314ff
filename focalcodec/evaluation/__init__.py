"""Evaluation of codecs: code the clips of sets, score them with judges, write result cards."""
