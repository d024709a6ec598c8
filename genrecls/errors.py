"""Failures that a user can act on. The command line shows their message and no traceback."""


class GenreclsError(Exception):
    """Something the user can mend: the message is one sentence with the cause and the next step."""


class Interrupted(GenreclsError):
    """Training was asked by a signal to end, and left in order: the message says how it goes on."""


class ConfigError(GenreclsError):
    """A setting that does not exist, does not apply or has a wrong value: wrong usage, exit status 2."""
