"""One process at a time in a folder: the next one waits, and says for whom.

The folder itself is locked (flock), so that no file is left behind: the kernel frees it when the process and the
compilers that it started have ended, however they end. Standard library only, since the SCons tool loads this file by
its path.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder while the block runs. Where there is none it is made, and removed again if nothing came into
    it."""
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = hold(folder)
    try:
        yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        os.close(descriptor)


def hold(folder: Path) -> int:
    """Hold the folder until the descriptor is closed. Whoever started this process and holds it already does not keep
    it out."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.set_inheritable(descriptor, True)  # a compiler that outlives its build still writes
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            if holder not in _ancestors():
                print(f"waiting for {_named(holder)}, which works in {folder}", file=sys.stderr, flush=True)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _holder(descriptor: int) -> int:
    """Who locked it, of `/proc/locks`: `1: FLOCK ADVISORY WRITE 4711 08:01:1234 0 EOF`; 0 where that cannot be told."""
    inode = str(os.fstat(descriptor).st_ino)
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if words[1] == "FLOCK" and words[5].rpartition(":")[2] == inode:
                return int(words[4])
    return 0


def _named(pid: int) -> str:
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        if pid and command.strip():
            return f"{' '.join(command.split())[:100]} (pid {pid})"
    return f"what pid {pid} has started" if pid else "another process"


def _ancestors() -> set[int]:
    found, pid = set(), os.getppid()
    with contextlib.suppress(OSError, ValueError, IndexError):
        while pid > 1:
            found.add(pid)
            pid = int(
                Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[1]
            )
    return found
