"""Version of the package; programs for the official package import it from here."""

VERSION = "0.1.0"
