"""Data sets and weights of the Hugging Face hub, and parquet files.

If the hub cannot be reached, or stops sending, an error says so within seconds and names what to do
instead.
"""
from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from seqpe_lab.atomic_files import stamp

T = TypeVar("T")
CONNECT = 2.0  # seconds in which the hub must answer at all
PATIENCE = 6.0  # seconds without a byte after which a download is given up


class Stalled(OSError):
    """The hub sent nothing for :data:`PATIENCE` seconds."""


def cache_folder() -> Path:
    """Where prepared data is kept: $SEQPE_CACHE or ~/.cache/seqpe_lab."""
    folder = os.environ.get("SEQPE_CACHE")
    return Path(folder).expanduser() if folder else Path.home() / ".cache" / "seqpe_lab"


def three_ways_out(download: str, instead: str) -> str:
    """What a user without a network can do; both arguments are imperative clauses.

    >>> three_ways_out("download it elsewhere", "use 'facts'").split("; ")[1:]
    ['(2) download it elsewhere', "(3) use 'facts'."]
    """
    return (f"Three ways out: (1) connect to the network and try again; (2) {download}; "
            f"(3) {instead}.")


def no_source(kind: str, source: str, give: str, choices: str) -> NoReturn:
    """Refuse a source that is neither a known name nor a path that is there.

    Args:
        kind: what was to be loaded, "text".
        give, choices: the remedies for a path, and for a name.

    Raises:
        FileNotFoundError, ValueError: ``source`` looks like a path; like a name.
    """
    if source.strip() and any(mark in source for mark in "/.\\"):
        raise FileNotFoundError(f"no {kind} at {source}: give {give}")
    raise ValueError(f"unknown source of {kind} {source!r}: choose {choices}")


def require_hub(what: str, ways_out: str) -> None:
    """Check that the hub answers: its own client takes minutes to report that it does not.

    With HF_HUB_OFFLINE set nothing is asked, since the client then uses its cache or fails at once.

    Args:
        what: what is wanted, for the message.
        ways_out: the end of the message, as :func:`three_ways_out` writes it.

    Raises:
        ConnectionError: no answer half a second after :data:`CONNECT`.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session
    if constants.HF_HUB_OFFLINE:
        return
    problems: list[object] = [f"no answer within {CONNECT:g} s"]

    def connect() -> None:
        try:  # through the client's own session and proxies; any answer will do
            get_session().head(constants.ENDPOINT, timeout=CONNECT)
            problems.clear()
        except Exception as error:  # of the client's HTTP library
            problems[:] = [error]

    # The client's time limit does not cover the look-up of the host's name, and applies to each
    # of its addresses anew. So the request runs in a thread that can be abandoned.
    request = threading.Thread(target=connect, daemon=True)
    request.start()
    request.join(CONNECT + 0.5)
    if problems:
        raise ConnectionError(f"the hub cannot be reached for {what} ({problems[0]}). {ways_out}")


@contextmanager
def give_up_when_stalled() -> Iterator[None]:
    """While it is open, a request to the hub raises :class:`Stalled` when no byte comes any more.

    The hub's client itself would wait for some answers without limit, and try five times again
    after a pause in a download. A slow download goes on for as long as something comes.
    """
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils import _http

    stalled = Stalled(f"nothing came for {PATIENCE:g} s")  # of a kind that is not tried again
    happened = threading.Event()

    def report(event: str, about: Mapping[str, Any]) -> None:
        if type(about.get("exception")).__name__.endswith("Timeout"):
            happened.set()
            raise stalled

    def limit(request: Any) -> None:
        if happened.is_set():  # a client that asks for something else would wait anew
            raise stalled
        limits = dict.fromkeys(("connect", "read", "write", "pool"), PATIENCE)
        if (request.extensions.get("timeout", {}).get("read") or PATIENCE) >= PATIENCE:
            request.extensions |= {"trace": report, "timeout": limits}

    def watched() -> Any:
        client = factory()
        client.event_hooks["request"].append(limit)
        return client

    ours = {"HF_HUB_DISABLE_XET": True,  # a protocol that does not report when it stalls
            "DOWNLOAD_CHUNK_SIZE": 2**18}  # bytes after which the bar moves
    before = {name: getattr(constants, name) for name in ours}
    factory = _http._GLOBAL_CLIENT_FACTORY
    set_client_factory(watched)
    vars(constants).update(ours)
    try:
        yield
    finally:
        vars(constants).update(before)
        set_client_factory(factory)


def ask_hub(what: str, ways_out: str, load: Callable[[], T]) -> T:
    """What ``load()`` returns; it loads something from the hub.

    Raises:
        ConnectionError: the hub does not answer or stops sending, or ``load`` fails; names the ways
            out.
        OSError: there is no room for what comes.
    """
    require_hub(what, ways_out)
    try:
        with give_up_when_stalled():
            return load()
    except Exception as error:  # datasets and the hub's client raise many kinds
        refuse_full_disk(error, what)
        raise ConnectionError(
            f"the hub did not give {what} ({type(error).__name__}: {error}). {ways_out}") from error


def refuse_full_disk(error: BaseException | None, what: str) -> None:
    """Raise an OSError that names the remedy if an error, or a cause of it, is a full disk.

    >>> refuse_full_disk(OSError(errno.ENOSPC, "No space left on device"), "the text")
    Traceback (most recent call last):
    OSError: there is no room for the text ([Errno 28] No space left on device): free some space, or
        set SEQPE_CACHE and HF_HOME to folders elsewhere
    """
    full, cause = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT), error
    while cause and getattr(cause, "errno", None) not in full:
        cause = cause.__cause__ or cause.__context__
    if cause:
        raise OSError(f"there is no room for {what} ({cause}): free some space, or set SEQPE_CACHE "
                      "and HF_HOME to folders elsewhere") from error


def load_from_hub(what: str, ways_out: str, *arguments, **options):
    """``datasets.load_dataset(*arguments, **options)``; errors as in :func:`ask_hub`."""
    def load():
        from datasets import load_dataset
        return load_dataset(*arguments, **options)
    return ask_hub(what, ways_out, load)


def read_parquet(file: Path):
    """The rows of a file as a ``datasets.Dataset``, memory-mapped.

    Raises:
        ValueError: the file is not parquet, or is broken; names it.
        OSError: the cache is full.
    """
    from datasets import Dataset
    try:  # datasets itself would know a changed file by its time alone
        return Dataset.from_parquet(
            str(file), cache_dir=str(cache_folder() / "datasets" / stamp(file)[:16]))
    except Exception as error:  # datasets and pyarrow raise many kinds
        refuse_full_disk(error, f"the rows of {file}")
        raise ValueError(
            f"{file} cannot be read as parquet ({type(error).__name__}: {error})") from error
