"""The root of all errors that are expected."""

from __future__ import annotations


class AtelierError(RuntimeError):
    """What may happen in use: the message names the thing, the value and what to do, and is all that a user sees."""
