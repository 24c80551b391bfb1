"""Files that are never seen half written, even if the writer is killed; and their stamps."""
from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, text: str, check: Callable[[], object] = lambda: None) -> None:
    """Write a file so that readers see the old content or the new one, also after a kill.

    Args:
        check: called when all is written under another name; if it raises an error, the file keeps
            its old content.

    Raises:
        OSError: names the file, also where the disk is full or the file too large.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        check()
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # write(2) does not name its file
            error.filename = str(path)
        raise


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path) -> str:
    """A hash that is another one after every change of a file, without reading it.

    It covers the file's place, number, size, and the times of its last changes. Of these, programs
    can set back the one of the content, but not the one at which the system noted a change.
    """
    stat = path.stat()
    seen = (str(path), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return hashlib.sha256(repr(seen).encode()).hexdigest()


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of files, has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
