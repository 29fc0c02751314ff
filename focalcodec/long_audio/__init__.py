"""Audio of any length in windows: the plan, and what each part needs beside a window."""
