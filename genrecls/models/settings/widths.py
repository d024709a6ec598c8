"""Widths of several layers in one text: what a setting holds where a model has a list of them."""

import re

from genrecls.errors import ConfigError

WIDEST = 16384


def widths(text: str, name: str) -> tuple[int, ...]:
    """ "128-128-64" -> (128, 128, 64), each from 1 to WIDEST.

    name: the setting as a user knows it, with its flag. Raises ConfigError where the text says anything else.
    """
    if re.fullmatch(r"[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})*", text):
        found = tuple(map(int, text.split("-")))
        if max(found) <= WIDEST:
            return found
    raise ConfigError(f"{name} must be widths from 1 to {WIDEST} joined by hyphens, such as 128-128-64, not {text!r}.")
