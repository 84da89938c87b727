"""What a command says when it cannot do what was asked: one line."""

from __future__ import annotations


class UsageError(Exception):
    """The arguments are wrong: exit code 2."""


class Failure(Exception):
    """The arguments are right, but it does not work: exit code 1."""
