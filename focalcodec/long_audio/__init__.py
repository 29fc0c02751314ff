"""Process audio of any length in windows; the context that each part needs around a window."""
