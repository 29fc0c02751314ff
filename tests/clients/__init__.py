"""Call sequences of programs that others wrote for the official package, in our own words.

A sequence takes a package, ours or the official one, and returns what the program computes.
`tests/data/official/clients*` holds what it computes with the official package at commit 912b7f2:
`python -m tests.clients.record official`, where `official` is the folder of its repository.
"""
