"""Options put into factory strings."""

from __future__ import annotations


def with_option(description: str, name: str, value: int) -> str:
    """The description with an option of ScaNN, unless it has it."""
    at = description.lower().find("scann")
    if at < 0 or name in description:
        return description
    end = at + len("scann")
    while end < len(description) and (description[end].isdigit() or description[end] == "x"):
        end += 1
    if description[end : end + 1] == "(":
        return f"{description[: end + 1]}{name}={value},{description[end + 1 :]}"
    return f"{description[:end]}({name}={value}){description[end:]}"


def normalized(description: str) -> str:
    """The description with normalize=1, that is, of cosines."""
    return with_option(description, "normalize", 1)
