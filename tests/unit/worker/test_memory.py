"""What a worker process does about its own memory."""

import json
import platform
import subprocess
import sys

import pytest

#: Threads that all hold some memory at once; then the arenas are counted.
_COUNT = """
import ctypes, json, sys, tempfile, threading
from worker.memory import keep_few_arenas

if sys.argv[1] == "few":
    keep_few_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(6)

def hold():
    together.wait(20)
    libc.malloc(5000)
    together.wait(20)

threads = [threading.Thread(target=hold) for _ in range(6)]
[one.start() for one in threads]
[one.join() for one in threads]
with tempfile.NamedTemporaryFile() as told:
    stream = ctypes.c_void_p(libc.fopen(told.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(json.dumps(told.read().decode().count("<heap nr=")))
"""


def arenas(how: str) -> int:
    """How many arenas a process has after six threads have allocated."""
    told = subprocess.run(
        (sys.executable, "-c", _COUNT, how), capture_output=True, check=True, timeout=60
    )
    count: int = json.loads(told.stdout)
    return count


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such arenas")
def test_threads_share_a_few_arenas() -> None:
    assert arenas("few") <= 2 < arenas("many")
