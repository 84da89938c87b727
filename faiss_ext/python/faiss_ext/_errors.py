"""Errors of the command line and of files of vectors: one line each."""

from __future__ import annotations


class UsageError(ValueError):
    """The arguments are wrong: exit code 2."""


class Failure(RuntimeError):
    """The arguments are right, but it does not work: exit code 1."""
