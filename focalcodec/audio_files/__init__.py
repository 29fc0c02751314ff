"""Audio files of any format: where their samples are, how many are promised, how they are read."""
