"""One worker of `mrprism.core.workers`: it does one case after the other, and says what came of each.

A process of its own runs `main`. It is given what there is to do on its standard input
and answers on its standard output. When the process that started it ends, for whatever reason, that input ends too; the
worker then stops in the middle of its case, as by Ctrl-C, and cleans up.
"""

from __future__ import annotations

import _thread
import io
import os
import pickle
import queue
import signal
import struct
import threading
import traceback
import warnings
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from typing import IO, Any

from mrprism.core.errors import InputError, Terminated

_SIZE = struct.Struct("<Q")  # bytes of the message behind it


@dataclass(frozen=True)
class Outcome:
    """What came of one case."""

    result: Any = None
    error: BaseException | None = None
    said: str = ""  # on standard error
    warned: tuple[tuple[Any, ...], ...] = ()  # message, category, file and line of each warning of Python


class Doer:
    """What is to be done with every case, unpacked once in a process, or on a machine, of its own."""

    def __init__(self, packed: bytes) -> None:
        """
        Args:
            packed: A pickled function of one case.
        """
        self.task: Any = None
        self.broken: InputError | None = None
        try:
            self.task = pickle.loads(packed)
        except Exception as error:
            told = InputError(f"a process could not begin its work: {type(error).__name__}: {error}")
            self.broken = error if isinstance(error, InputError) else told

    def do(self, packed: bytes) -> bytes:
        """Do one pickled case; its pickled `Outcome`."""
        said, result = io.StringIO(), None
        error: BaseException | None = self.broken
        with redirect_stderr(said), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")  # the process that gathers them says which are shown
            if error is None:
                try:
                    result = self.task(pickle.loads(packed))
                except Exception as raised:
                    error = _portable(raised)
        warned = tuple((w.message, w.category, w.filename, w.lineno) for w in caught)
        try:
            return pickle.dumps(Outcome(result, error, said.getvalue(), warned))
        except Exception as unpicklable:
            return pickle.dumps(Outcome(error=_portable(unpicklable), said=said.getvalue()))


def _portable(error: Exception) -> BaseException:
    """An error as another process can raise it again; what only its traceback says goes along as a note."""
    if not isinstance(error, InputError | OSError | MemoryError):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:  # it was made of more than its text, or of something that stays where it is
        pass
    told: Exception = InputError(str(error)) if isinstance(error, InputError) else RuntimeError(str(error))
    for note in getattr(error, "__notes__", ()):
        told.add_note(note)
    return told


def send(stream: IO[bytes], message: bytes) -> None:
    """Write one message."""
    stream.write(_SIZE.pack(len(message)))
    stream.write(message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Read one message; None where the stream has ended, also in the middle of one."""
    head = stream.read(_SIZE.size)
    if len(head) < _SIZE.size:
        return None
    size = _SIZE.unpack(head)[0]
    message = stream.read(size)
    return message if len(message) == size else None


def main() -> int:
    """Do what comes in until nothing more does."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes to whoever started us
    waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    try:
        threading.Thread(target=_listen, args=(waiting,), daemon=True).start()
        first = waiting.get()
        doer = None if first is None else Doer(first)
        while doer is not None and (packed := waiting.get()) is not None:
            send(answers, doer.do(packed))
    except (Terminated, BrokenPipeError):
        with suppress(OSError):
            os.close(answers.fileno())  # without writing what is left in it
        return 143
    return 0


def _listen(waiting: queue.SimpleQueue[bytes | None]) -> None:
    given = os.fdopen(os.dup(0), "rb")
    while (message := receive(given)) is not None:
        waiting.put(message)
    _thread.interrupt_main(signal.SIGTERM)  # in case a case is under way
    waiting.put(None)  # after that, or `main` could be over when it is interrupted


def _end(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: the next would come while it cleans up
    raise Terminated
