"""One command at a time writes to an output; the operating system keeps count of who does.

A lock ends with the process that holds it, however that ends, so none is ever stale. Its file lies beside
the output under a hidden name, `.NAME.lock`, and is removed at the end; one that a killed command left
behind is locked by nobody and stands in nobody's way.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import inspect
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

from mrprism.core import given
from mrprism.core.errors import InputError
from mrprism.core.files import kind_of_no_file, plain_file
from mrprism.output.terminal import warn

P = ParamSpec("P")
T = TypeVar("T")

_HELD: ContextVar[dict[str, bool]] = ContextVar("held")  # outputs this thread has locked: is it sure?
_OPEN: set[IO[bytes]] = set()  # the files that are locked
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
_NOT_HERE = (errno.EACCES, errno.EPERM, errno.EROFS)
_TRIES = 100
_NAME = 200  # bytes of a name that leave room for what hidden names add to it, out of 255


@contextmanager
def alone(out: str | os.PathLike[str], *, wait: bool = False) -> Iterator[bool]:
    """Be the only command that writes to a file or folder, which need not be there yet.

    Relative paths and links lead to the same lock as the place they name. Whoever holds a lock may ask for it
    again. Folders above that had to be made for the lock go again if nothing was put into them.

    Args:
        wait: Until the other command has ended, rather than be refused.

    Yields:
        Whether the lock is sure: False where the file system knows no locks, which is said.

    Raises:
        InputError: Another command holds the lock, the folder above cannot be written to, or this is the name of
            nothing, or of a pipe, socket or device.
    """
    place = Path(os.path.realpath(named(out)))
    if kind := kind_of_no_file(place):  # a file that takes its name would take the place of /dev/null
        raise InputError(f"'{out}' is {kind}; expected the name of a file or folder to write")
    held = _HELD.get({})
    if str(place) in held:
        yield held[str(place)]
        return
    made = _missing(place.parent)
    file, path, sure = _acquire(place, out, wait)
    _HELD.set({**held, str(place): sure})
    _OPEN.add(file)
    try:
        yield sure
    finally:
        _HELD.set({name: held for name, held in _HELD.get().items() if name != str(place)})
        _OPEN.discard(file)
        with file:
            if sure:
                _remove(file, path)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def named(out: str | os.PathLike[str]) -> Path:
    """The path of an output; an empty one, as of a variable that is not set, would be the folder one is in.

    Raises:
        InputError: It is empty, or no path.
    """
    place = given.path(out, "the path of what is written")
    if not os.fspath(out):
        raise InputError("the name of what should be written is empty; expected a file or folder")
    return place


def alone_in(argument: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A function that holds the lock of an output while it runs.

    Args:
        argument: Of the function: the output's path, or something that has a ``path``. Of several processes that train
            together, as torchrun starts them, the first holds the lock for all.
    """

    def around(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def locked(*args: P.args, **kwargs: P.kwargs) -> T:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            output = bound.arguments[argument]
            if os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0":
                return function(*args, **kwargs)
            with alone(getattr(output, "path", output)):
                return function(*args, **kwargs)

        return locked

    return around


def beside(path: Path, ending: str) -> Path:
    """A hidden name in the same folder, for what belongs to a file or folder and goes again."""
    name = os.fsencode(path.name)
    if len(name) > _NAME:
        name = name[:_NAME] + hashlib.sha256(name).hexdigest()[:8].encode()
    return path.with_name(f".{os.fsdecode(name)}{ending}")


def _missing(folder: Path) -> list[Path]:
    """A folder and those above it, as far as they are not there, the innermost first."""
    return [above for above in (folder, *folder.parents) if not above.is_dir()]


def _acquire(place: Path, out: str | os.PathLike[str], wait: bool) -> tuple[IO[bytes], Path, bool]:
    """A locked file, its name, and whether the lock is sure."""
    gone = 0
    while True:
        try:
            file, path = _open(place)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and gone < _TRIES:
                gone += (
                    1  # another command's folder, gone again with its lock; /proc says so of every new one
                )
                continue
            raise InputError(f"cannot write '{out}': {error.strerror or error}") from error
        try:
            sure = _lock(file, path, out, wait)
        except BaseException:
            file.close()
            raise
        if not sure:
            return file, path, False
        if is_at(file, path):
            _sign(file)
            return file, path, True
        file.close()  # whoever had the lock before removed its file just now


def _open(place: Path) -> tuple[IO[bytes], Path]:
    """The file to lock.

    It lies within the output instead of beside it where that is a mount, for what is beside it is then another place
    on every machine, and where nothing can be written beside it.
    """
    inside, outside = place / ".lock", beside(place, ".lock")
    if not place.parent.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
    there = place.is_dir()
    if there and os.path.ismount(place):
        return inside.open("ab+", buffering=0), inside
    try:
        return outside.open("ab+", buffering=0), outside
    except OSError as error:
        if there and error.errno in _NOT_HERE:
            with suppress(OSError):
                return inside.open("ab+", buffering=0), inside
        raise


def _lock(file: IO[bytes], path: Path, out: str | os.PathLike[str], wait: bool) -> bool:
    """Lock the file of an output; False where the file system has no locks."""
    try:
        lock(file, wait=wait)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            warn(f"the file system of '{out}' has no locks: let no other command write there")
            return False
        if error.errno not in _TAKEN:
            raise InputError(f"cannot write '{out}': {error.strerror or error}") from error
        raise InputError(
            f"'{out}' is being written by another command{_who(path)}; wait for its end, or name another place"
        ) from None
    return True


def is_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file still goes by this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(file: IO[bytes]) -> None:
    """Leave word of who holds the lock; on a full disk without."""
    with suppress(OSError):
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()


def _who(path: Path) -> str:
    try:
        name = plain_file(path).read_text(encoding="utf-8")
    except (InputError, OSError, ValueError):
        return ""
    return f" ({name})" if name.isprintable() and name else ""


def _remove(file: IO[bytes], path: Path) -> None:
    with suppress(OSError):
        if (
            os.name == "nt"
        ):  # which removes no open file; one that another has opened meanwhile it does not either
            file.close()
            path.unlink()
        elif is_at(file, path):
            path.unlink()


def _let_go() -> None:
    """A process that comes of this one by a fork may outlive it, and would go on holding its locks."""
    for file in _OPEN:
        with suppress(OSError):
            file.close()
    _OPEN.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    _FAR = 1 << 30  # a byte nobody reads or writes: a locked one cannot be read either

    def lock(file: IO[bytes], *, wait: bool = False) -> None:
        """Lock an open file until it is closed.

        Raises:
            OSError: Somebody else has it locked, or the file system has no locks.
        """
        while True:
            file.seek(_FAR)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
                return
            except OSError as error:  # waiting ends after ten seconds
                if not (wait and error.errno in _TAKEN):
                    raise

else:
    try:
        import fcntl
    except ImportError:  # pragma: no cover

        def lock(file: IO[bytes], *, wait: bool = False) -> None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    else:

        def lock(file: IO[bytes], *, wait: bool = False) -> None:
            """Lock an open file until it is closed.

            Raises:
                OSError: Somebody else has it locked, or the file system has no locks.
            """
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
