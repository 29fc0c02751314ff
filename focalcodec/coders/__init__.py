"""Codecs behind one interface: ours, those of others, and no codec at all."""
