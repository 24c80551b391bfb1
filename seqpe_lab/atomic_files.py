"""Files that are never seen half written, even if the writer is killed; and locks on them."""
from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TextIO


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that readers see the old content or the new one, also after a kill.

    Raises:
        OSError: names the file, also where the disk is full or the file too large.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # write(2) does not name its file
            error.filename = str(path)
        raise


def read_json_lines(path: Path) -> list[dict]:
    """The records of a file of JSON lines; a line that a kill cut short is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of files, has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock(file: TextIO, exclusive: bool) -> bool:
    """Try to lock an open file until it is closed; False if another process holds the lock.

    The system drops the lock as soon as this process closes any handle of the file. True also where
    there are no such locks (on Windows, and on some network disks).
    """
    try:
        import fcntl
        fcntl.lockf(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except (ImportError, OSError):
        pass
    return True
