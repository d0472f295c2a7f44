"""Fault drills: break a running server on purpose, and count what its callers saw.

``python -m server.drills`` holds them all and writes what it saw into docs/RELIABILITY.md.
"""
