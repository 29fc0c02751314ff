"""Common layers of the paper's networks; each gets lengths or a mask."""
