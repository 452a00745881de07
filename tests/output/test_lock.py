"""One command at a time writes to an output, and a lock ends with its process."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mrprism.core.errors import InputError
from mrprism.output import lock as locks
from mrprism.output.files import remove_leftovers, replacing, write_file
from mrprism.output.folders import complete_folder, complete_set, replacing_folder
from mrprism.output.lock import alone, alone_in

HOLD = "import sys\nfrom mrprism.output.lock import alone\nwith alone(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()\n"


@contextmanager
def holder(out: Path | str, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of an output."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def test_the_second_comer_is_refused_and_the_file_is_gone_afterwards(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with holder(out) as other:
        with pytest.raises(
            InputError, match=f"'{out}' is being written by another command .process {other.pid} "
        ):
            alone(out).__enter__()
        assert (tmp_path / ".out.lock").is_file()
    assert list(tmp_path.iterdir()) == []
    with alone(out) as sure:
        assert sure
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_stands_in_nobodys_way(tmp_path: Path) -> None:
    with holder(tmp_path / "out") as other:
        other.kill()
        other.wait()
        assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]
        with alone(tmp_path / "out") as sure:
            assert sure
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_was_forked_off_holds_nothing(tmp_path: Path) -> None:
    """As workers of a command that was killed, which may go on for a while."""
    ours, theirs = os.pipe()
    with alone(tmp_path / "out"):
        child = os.fork()
        if child == 0:
            os.close(theirs)
            os.read(ours, 1)  # until the other end is closed
            os._exit(0)
    os.close(ours)
    with holder(tmp_path / "out"):
        pass
    os.close(theirs)
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    "spelling", ["relative", "dots", "link", "link to a folder above", "dangling link", "itself"]
)
def test_every_spelling_of_a_place_is_the_same_place(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a/out"
    place.parent.mkdir()
    if spelling != "dangling link":
        place.mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "straight").symlink_to(place)
    (tmp_path / "b").symlink_to("a")
    other = {
        "relative": Path("a/out"),
        "dots": tmp_path / "a/../a/./out",
        "link": tmp_path / "straight",
        "link to a folder above": tmp_path / "b/out",
        "dangling link": Path("straight"),
        "itself": place,
    }[spelling]
    with holder(place), pytest.raises(InputError, match="is being written by another command"):
        alone(other).__enter__()
    with holder(other, cwd=tmp_path), pytest.raises(InputError, match="is being written by another command"):
        alone(place).__enter__()


def test_other_outputs_are_others(tmp_path: Path) -> None:
    with holder(tmp_path / "out"):
        for other in ("out2", "Out.x", "sub/out", "out/inside"):
            with alone(tmp_path / other):
                pass
    assert list(tmp_path.iterdir()) == []


def test_whoever_holds_it_may_ask_again_and_other_threads_may_not(tmp_path: Path) -> None:
    refused: list[str] = []

    def try_it() -> None:
        try:
            with alone(tmp_path / "out"):
                pass
        except InputError as error:
            refused.append(str(error))

    with alone(tmp_path / "out"), alone(f"{tmp_path}/./out"):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert len(refused) == 1
    try_it()
    assert len(refused) == 1


def test_one_who_waits_comes_next(tmp_path: Path) -> None:
    with holder(tmp_path / "out") as other:
        assert other.stdin is not None
        timer = threading.Timer(0.2, other.stdin.close)
        timer.start()
        with alone(tmp_path / "out", wait=True) as sure:
            assert sure
            assert (tmp_path / ".out.lock").is_file(), "of the one who waited, not of the one before"
        timer.join()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL], ids=errno.errorcode.get
)
def test_a_file_system_without_locks_is_said(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks, "lock", refuse)
    leftover = tmp_path / ".out.0123abcd.unfinished"
    leftover.mkdir()
    with complete_folder(tmp_path / "out") as folder:
        write_file(folder / "a", b"a")
    assert (tmp_path / "out/a").read_bytes() == b"a"
    assert f"the file system of '{tmp_path / 'out'}' has no locks" in capsys.readouterr().err
    assert leftover.is_dir(), "it may be another command's that is under way"


def test_a_disk_error_is_no_lock_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(locks, "lock", fail)
    with pytest.raises(InputError, match=r"cannot write .*out': Input/output error"):
        alone(tmp_path / "out").__enter__()


def test_a_place_in_which_no_folder_can_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /proc does it, which says "no such file" and not "permission denied"."""

    def mkdir(path: Path, *args: object, **kwargs: object) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(InputError, match=r"cannot write '.*out': No such file or directory"):
        alone(tmp_path / "new" / "out").__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_lies_inside_where_nothing_can_be_made_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    real = Path.open

    def refuse(self: Path, *more: object, **named: object) -> object:
        if self.parent == tmp_path:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        return real(self, *more, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    with alone(tmp_path / "out"):
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(InputError, match="Read-only file system"):
        alone(tmp_path / "other").__enter__()


def test_a_mounted_disk_has_its_lock_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path / "out")
    with alone(tmp_path / "out"):
        assert [path.name for path in tmp_path.rglob(".*")] == [".lock"]
        assert (tmp_path / "out/.lock").is_file()
    with pytest.raises(InputError, match="is a mounted disk"), complete_folder(tmp_path / "out"):
        pass
    assert list((tmp_path / "out").iterdir()) == []


def test_folders_made_for_a_lock_go_again(tmp_path: Path) -> None:
    with alone(tmp_path / "a/b/out"):
        assert (tmp_path / "a/b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with alone(tmp_path / "a/b/out"):
        (tmp_path / "a/file").touch()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["a", "a/file"]


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "b\udcff" * 100])
def test_long_and_odd_names(name: str, tmp_path: Path) -> None:
    out = tmp_path / name
    with holder(out), pytest.raises(InputError, match="is being written by another command"):
        alone(out).__enter__()
    with complete_folder(out) as folder:
        write_file(folder / name, b"a")
    assert list(tmp_path.rglob("*")) == [out, out / name]


def test_a_function_holds_the_lock_its_argument_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @alone_in("out")
    def work(number: int, out: Path | str, *, fail: bool = False) -> int:
        """Documented."""
        assert (tmp_path / ".out.lock").is_file()
        if fail:
            raise ValueError("on purpose")
        return number

    assert work.__doc__ == "Documented."
    assert work(3, tmp_path / "out") == work(number=3, out=str(tmp_path / "out")) == 3
    with pytest.raises(ValueError, match="on purpose"):
        work(3, tmp_path / "out", fail=True)
    with holder(tmp_path / "out"):
        with pytest.raises(InputError):
            work(3, tmp_path / "out")
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
        assert work(3, tmp_path / "out") == 3, "the first of several processes holds it for all"


# --- folders ------------------------------------------------------------------------------------


def test_a_folder_that_is_being_written_is_not_removed_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "out"
    dead = [tmp_path / ".out.unfinished", tmp_path / ".out.0123abcd.unfinished"]
    others = [
        tmp_path / ".out.x.unfinished",
        tmp_path / ".out.x.0123abcd.unfinished",
        tmp_path / ".outer.unfinished",
    ]
    for folder in [*dead, *others]:
        folder.mkdir()
    with complete_folder(out) as first:
        assert [path for path in dead if path.exists()] == []
        write_file(first / "a", b"first")
        with holder(tmp_path / "elsewhere"), complete_folder(tmp_path / "other") as second:
            write_file(second / "b", b"second")
        assert first.is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {"out", "other", *(path.name for path in others)}


def test_a_folder_behind_a_link_is_made_where_the_link_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    with complete_folder(tmp_path / "link") as folder:
        write_file(folder / "a", b"a")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/a").read_bytes() == b"a"


def test_the_folder_one_is_in_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is the folder you are in"), complete_folder(Path(".")):
        pass
    assert list(tmp_path.iterdir()) == []


def test_another_folder_takes_the_place_of_one(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        with replacing_folder(tmp_path / "case") as folder:
            write_file(folder / "mask", content)
            write_file(folder / content.decode(), content)
    assert {path.name: path.read_bytes() for path in (tmp_path / "case").iterdir()} == {
        "mask": b"new",
        "new": b"new",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["case"]


def test_a_set_of_files_is_never_a_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at each of its renames: what is there is of one set, and whole only with the file that comes last."""

    def write(sets: str, *names: str) -> None:
        with complete_set(tmp_path, "tables", ("*.csv",), last=("index",)) as new:
            for name in names:
                write_file(new / name, f"{sets}".encode())

    def visible() -> dict[str, str]:
        return {path.name: path.read_text() for path in tmp_path.iterdir() if not path.name.startswith(".")}

    write("old", "a.csv", "b.csv", "index")
    (tmp_path / "notes.txt").write_text("mine")
    real, seen = os.rename, set()
    for moment in range(20):
        child = os.fork()
        if child == 0:
            left = iter(range(moment, -1, -1))

            def rename(source: object, target: object, left: Iterator[int] = left) -> None:
                if ("unfinished/new" in str(source) or "unfinished/old" in str(target)) and next(left) == 0:
                    os._exit(9)
                real(source, target)  # type: ignore[call-overload]

            os.replace = rename  # type: ignore[assignment]
            write("new", "a.csv", "c.csv", "index")
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found = visible()
        assert found.pop("notes.txt") == "mine"
        assert len(set(found.values())) <= 1, "a mixture"
        if "index" in found:
            assert set(found) == (
                {"a.csv", "b.csv", "index"} if "old" in found.values() else {"a.csv", "c.csv", "index"}
            )
        seen.add((code, frozenset(found.items())))
        write("old", "a.csv", "b.csv", "index")
        assert set(visible()) == {"a.csv", "b.csv", "index", "notes.txt"}
        assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []
        if code == 0:
            break
    assert len(seen) >= 5


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr
)
def test_a_set_of_files_that_fails_leaves_the_older_one(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(content: bytes) -> None:
        with complete_set(tmp_path, "tables", ("*.csv", "pictures"), last=("index",)) as new:
            for name in ("a.csv", "index", "pictures/1.png"):
                write_file(new / name, content)

    write(b"old")
    real = os.replace
    for moment in range(6):
        count = 0

        def replace(source: object, target: object, at: int = moment) -> None:
            nonlocal count
            if "unfinished/new" in str(source) or "unfinished/old" in str(target):
                count += 1
                if count - 1 == at:
                    raise error
            real(source, target)  # type: ignore[call-overload]

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            with pytest.raises((InputError, KeyboardInterrupt)):
                write(b"new")
        files = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert files == {"a.csv": b"old", "index": b"old", "1.png": b"old"}
        assert count > moment


def test_a_set_of_files_takes_no_place_of_somebody_elses(tmp_path: Path) -> None:
    """Such names as cases.csv or consensus.png are others' as well; a killed command's half is not."""

    def write(*, known: bool = False) -> None:
        with complete_set(tmp_path, "tables", ("a.*",), last=("index",), known=known) as new:
            for name in ("a.csv", "index"):
                write_file(new / name, b"new")

    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(InputError, match=r"'.*a\.txt' would be replaced, and beside it is no index"):
        write()
    (tmp_path / ".tables.01234567.unfinished" / "new").mkdir(parents=True)  # killed before the first rename
    with pytest.raises(InputError, match="name another folder"):
        write()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "mine")]
    (tmp_path / ".tables.01234567.unfinished" / "old").mkdir(parents=True)  # killed between two renames
    write()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "index"]
    (tmp_path / "index").unlink()
    write(known=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "index"]


def test_a_file_being_written_is_no_leftover(tmp_path: Path) -> None:
    (tmp_path / ".dead.4711.tmp").touch()
    with replacing(tmp_path / "file") as file:
        file.write(b"content")
        remove_leftovers(tmp_path)
        assert len(list(tmp_path.glob(".file.*.tmp"))) == 1
        assert not (tmp_path / ".dead.4711.tmp").exists()
    assert (tmp_path / "file").read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("out", ["", Path("/dev/null")])
def test_what_is_no_name_of_an_output(out: str | Path) -> None:
    """A file that takes its name by renaming would take the place of the device."""
    with pytest.raises(InputError, match=r"is empty; expected a file|is a device"), alone(out):
        pytest.fail("locked")
