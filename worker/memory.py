"""What a worker process does about its own memory."""

import ctypes
import gc

#: New objects after which the youngest are looked through for garbage.
GARBAGE_EVERY = 10_000
#: Arenas of the C library's allocator. Python holds its lock while it allocates,
#: so that threads hardly ever wait for each other there.
ARENAS = 2

#: `M_ARENA_MAX` of glibc's malloc.h.
_ARENA_MAX = -8


def look_less_for_garbage() -> None:
    """Leave what is there by now alone: all of it stays as long as the process.

    Half a million objects of Celery, SQLAlchemy and pydantic were looked through
    for garbage again and again while items passed: a quarter of a worker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_EVERY)


def keep_few_arenas() -> None:
    """Let all threads that begin from now on allocate from the same few arenas.

    glibc gives them eight a core. Chunks of items come and go in each of them,
    and what is free in one is of no use to the others: a process grew as long as
    a job lasted. Elsewhere than on glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, ARENAS)
