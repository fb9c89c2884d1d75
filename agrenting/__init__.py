"""Agrenting: an open, self-hosted marketplace for software agents.

This package runs it; `channels` decides, `crypto` proves.
"""

__version__ = "0.1.0"
