"""The command line: `main` has the table of commands, and imports only the one that runs."""
