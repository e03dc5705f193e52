"""Where output goes: a file that appears whole or not at all, or standard output."""

import errno
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

STANDARD_OUTPUT = "-"


def check_output(name: str | None) -> None:
    """Find out beforehand that `open_output` could not write there. Raises OSError."""
    if name is None or name == STANDARD_OUTPUT:
        return
    path = Path(name).resolve()
    # A file is made beside the one that it replaces; a pipe or a device is written to.
    written = path if path.exists() and not path.is_file() else path.parent
    fault = None
    if path.is_dir():
        fault = errno.EISDIR
    elif not written.exists():
        fault = errno.ENOENT
    elif not os.access(written, os.W_OK):
        fault = errno.EACCES
    if fault is not None:
        raise OSError(fault, os.strerror(fault))


@contextmanager
def open_output(name: str | None, *, stdout: TextIO) -> Iterator[TextIO]:
    """Open what `--output` names; nothing or `-` is standard output.

    A file is for its owner alone, and takes the place of an older one only when
    all is written. A reader that leaves early, such as `head`, ends the block
    without an error.

    Raises:
        OSError: the file cannot be written.
    """
    if name is None or name == STANDARD_OUTPUT:
        with _until_nobody_reads(stdout) as out:
            yield out
        return
    # A link stays a link: what it names is replaced.
    path = Path(name).resolve()
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        # A pipe or a device is written to, never replaced.
        with path.open("w", encoding="utf-8", newline="") as out:
            yield out
        return
    with _replacing(path) as out:
        yield out


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    # Made with mode 0600, and beside the file, since a rename stays on one disk.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def _until_nobody_reads(stdout: TextIO) -> Iterator[TextIO]:
    if isinstance(stdout, io.TextIOWrapper):
        # A terminal that lacks a letter is no reason to lose the rest.
        stdout.reconfigure(errors="backslashreplace")
    try:
        yield stdout
        stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit, and would complain then.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stdout.fileno())
        os.close(nowhere)
