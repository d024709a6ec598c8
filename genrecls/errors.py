"""Failures that a user can act on. The command line shows their message and no traceback."""


class GenreclsError(Exception):
    """Something the user can mend: the message is one sentence with the cause and the next step."""


class Interrupted(GenreclsError):
    """Training was asked to end, by a signal or by who watches it, and left in order: its message says how to go on."""


class Untrainable(GenreclsError):
    """These settings cannot be trained to their end on this machine; others may."""


class ConfigError(GenreclsError):
    """A setting that does not exist, does not apply or has a wrong value: wrong usage, exit status 2."""
