"""Comparison with the official package: small models, cases, and how results are compared."""
