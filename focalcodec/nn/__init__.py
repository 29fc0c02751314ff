"""Layers that the paper's networks share; every one takes lengths or a mask."""
