"""Settings under which the C library's allocator keeps freed memory.

An unroll allocates and frees the same few megabytes thousands of times; glibc gives blocks of that size back to the
kernel at once and pays a page fault for each page when it asks again: about a quarter of a CPU member's time.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> bool:
    """Raise glibc's thresholds for this process; False where the C library has no `mallopt`."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 512 << 20), (_TOP_PAD, 64 << 20))
    done = [bool(mallopt(option, value)) for option, value in settings]
    return all(done)
