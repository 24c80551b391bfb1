"""Who may write to a run's folder: one thread of one process, from the first file to the last.

A claim is a lock of the operating system on the file ``lock``, which ends with its process however
that ends. On disks without such locks it is a lease: the file ``lease``, which its process touches
every ten seconds. In either case ``claim.json`` holds a token of the claim, and nothing is written
unless it is still there. So a process whose folder was deleted and made again, or whose lease
another process has taken over, stops at its next write.
"""
from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLease, Timeout, lock_descriptor

from seqpe_lab.atomic_files import write_atomically

LEASE = 30.0  # seconds after which a lease that nobody touches may be taken over
PATIENCE = 0.5  # seconds; a process that only looks holds the lock for a moment
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what a disk without locks says


class RunningError(RuntimeError):
    """Another process or thread is training in the folder; the message says which."""


class FolderLostError(RuntimeError):
    """The folder is no longer the one that was claimed; nothing more is written to it."""


@dataclass
class Claim:
    """A folder that a thread of this process may write to."""
    folder: Path
    token: str

    def check(self) -> None:
        """Raises FolderLostError unless the folder is still the one that was claimed."""
        if _holder(self.folder).get("token") != self.token:
            raise FolderLostError(
                f"{self.folder} was deleted, or claimed by another process, while this one was "
                "writing to it: nothing more is written; start the run again, in a folder of its "
                "own")


_claims: dict[tuple[Path, int, int], Claim] = {}  # by folder, process and thread


@contextmanager
def claimed(folder: Path) -> Iterator[Claim]:
    """Make the folder if needed, and keep all others from writing to it.

    A thread may claim again what it has claimed already. A folder that was made for the claim, and
    to which nothing was written, is removed at its end.

    Raises:
        RunningError: another process or thread has it.
        FolderLostError: this thread had claimed it, but it is another folder by now.
    """
    key = folder.resolve(), os.getpid(), threading.get_ident()
    if held := _claims.get(key):
        held.check()
        yield held
        return
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    try:
        claim = Claim(folder, secrets.token_hex(16))
        about = {"holder": _this_process(), "token": claim.token}
        write_atomically(folder / "claim.json", json.dumps(about))
        _claims[key] = claim
        try:
            yield claim
        finally:
            del _claims[key]
            with suppress(FolderLostError, OSError):
                claim.check()
                (folder / "claim.json").unlink()
                if made and {path.name for path in folder.iterdir()} <= {"lock", "lease"}:
                    shutil.rmtree(folder)
    finally:
        lock.release()


def holder_of(folder: Path) -> str | None:
    """The process that has claimed a folder, "process 4711 on node17"; None if none has.

    Looking at a claim never ends it.
    """
    return _holder(folder).get("holder", "another process") if _is_held(folder) else None


def _lock(folder: Path) -> BaseFileLock:
    lock: BaseFileLock = FileLock(folder / "lock", timeout=PATIENCE, fallback_to_soft=False)
    try:
        try:
            lock.acquire()
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise
            lock = SoftFileLease(folder / "lease", lease_duration=LEASE, poll_interval=0.5,
                                 timeout=PATIENCE if _is_touched(folder) else LEASE + 5)
            lock.acquire()
    except Timeout:
        raise RunningError(f"{folder} is being trained by {holder_of(folder) or 'another process'}"
                           ": wait for it, or stop it first") from None
    return lock


def _is_held(folder: Path) -> bool:
    try:
        handle = os.open(folder / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return _is_touched(folder)
    try:
        import fcntl
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared with others that look
    except BlockingIOError:
        return True
    except ImportError:  # Windows
        return not lock_descriptor(handle, blocking=False)
    except OSError:  # a disk without locks
        return _is_touched(folder)
    finally:
        os.close(handle)  # frees only the lock of this handle
    return False


def _is_touched(folder: Path) -> bool:
    """Whether there is a lease that was touched lately, by this machine's clock."""
    with suppress(FileNotFoundError):
        return abs(time.time() - (folder / "lease").stat().st_mtime) < LEASE
    return False


def _holder(folder: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        values = json.loads((folder / "claim.json").read_text(encoding="utf-8"))
        return values if isinstance(values, dict) else {}
    return {}


def _this_process() -> str:
    return f"process {os.getpid()} on {platform.node()}"
