"""What is asked of the C library's memory."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3), as malloc.h has them."""


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for what is allocated next, up to 1 GiB in a piece, instead of giving it
    back to the system, which clears every page anew: every step of a training allocates its gradients again, and every
    clip of a corpus its samples.

    Does nothing where the library is not glibc.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return
    library.mallopt(_M_MMAP_THRESHOLD, 2**30)
    library.mallopt(_M_TRIM_THRESHOLD, -1)
