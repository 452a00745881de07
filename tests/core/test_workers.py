"""A function of one case, done by several processes: in order, once each, and to an end whatever happens."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import tasks

from mrprism.core.errors import InputError, WorkersLost
from mrprism.core.workers import AHEAD, START, Workers, in_order
from mrprism.output.ends import end_of

TWO = Workers(2)


def test_results_come_in_the_order_of_the_cases() -> None:
    assert list(in_order(tasks.square, range(20), TWO)) == [n * n for n in range(20)]
    assert list(in_order(tasks.square, iter([]), TWO)) == []
    assert len(set(in_order(tasks.process, range(6), TWO)) - {os.getpid()}) == 2


def test_one_job_is_a_plain_loop_in_this_process() -> None:
    """What no pickle holds can be given, and nothing is done before it is asked for."""
    done: list[int] = []
    loop = in_order(done.append, range(3))
    assert done == []
    next(loop)
    assert done == [0]
    assert list(in_order(lambda n: (n, os.getpid()), [7])) == [(7, os.getpid())]


def test_a_few_cases_are_under_way_and_no_more() -> None:
    asked: list[int] = []

    def cases() -> Iterator[int]:
        for number in range(100):
            asked.append(number)
            yield number

    results = in_order(tasks.square, cases(), TWO)
    for number in range(3):
        next(results)
        assert len(asked) == number + 2 * AHEAD
    results.close()


def test_what_workers_say_comes_once_and_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="all of them warn") as seen:
        assert list(in_order(tasks.talking, range(4), TWO)) == [0, 1, 2, 3]
    assert len(seen) == 4  # under pytest each is shown
    out, err = capfd.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if "speaks" in line] == [f"case {n} speaks" for n in range(4)]


def test_an_error_comes_at_its_turn_and_as_itself() -> None:
    results = in_order(tasks.odd_ones_fail, [0, 2, 3, 4, 5], TWO)
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(InputError, match=r"^case 3 is odd; expected an even one$"):
        next(results)


def test_an_error_that_no_pickle_brings_back_still_says_what_and_where() -> None:
    with pytest.raises(RuntimeError) as raised:
        list(in_order(tasks.awkward, [0], TWO))
    assert str(raised.value) == "0 and 0"
    assert "raise AwkwardError(number, number)" in raised.value.__notes__[0]


@pytest.mark.parametrize("times", [1, 2])
def test_the_case_of_a_killed_worker_is_done_again(times: int, tmp_path: Path) -> None:
    assert list(in_order(partial(tasks.dies, tmp_path, times), range(6), TWO)) == list(range(6))
    assert len(list(tmp_path.iterdir())) == times


def test_a_case_that_kills_every_worker_is_named(tmp_path: Path) -> None:
    results = in_order(partial(tasks.dies, tmp_path, 99), range(6), TWO, named="abcdef".__getitem__)
    assert next(results) == 0
    with pytest.raises(WorkersLost, match=r"^3 processes died one after the other of case 'b': ") as raised:
        next(results)
    sentence, code = end_of(raised.value)
    assert "ended by signal 9, perhaps for want of memory" in sentence
    assert "\n" not in sentence
    assert code == 1


def test_what_cannot_be_handed_on_is_said() -> None:
    with pytest.raises(InputError, match=r"cannot be handed to other processes .* leave out --jobs"):
        list(in_order(lambda n: n, range(3), TWO))


@pytest.mark.parametrize(("workers", "says"), [((0,), "jobs must be 1 or more"), ((1, "moon"), "'local' or")])
def test_no_workers_of_other_kinds(workers: tuple[int, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Workers(*workers)


def test_workers_that_are_done_end_without_a_word() -> None:
    """Also those that hear of it while they begin."""
    ends = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", START], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for _ in range(6)
    ]
    assert [process.communicate()[1] for process in ends] == [b""] * 6


def test_a_module_beside_python_c_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def double(number):\n    return 2 * number\n")
    code = (
        "import mine; from mrprism.core.workers import Workers, in_order; "
        "print(list(in_order(mine.double, [1, 2], Workers(2))))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("[2, 4]\n", "")


def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    cores = os.cpu_count() or 1
    assert list(in_order(tasks.threads, [0, 1], TWO)) == [str(max(1, cores // 2))] * 2
    assert list(in_order(tasks.threads, [0], Workers(1000))) == [str(cores)]  # one case needs one worker
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # what the user said
    assert list(in_order(tasks.threads, [0], TWO)) == ["3"]


STOPPED = """
import sys
from functools import partial
from pathlib import Path
import tasks
from mrprism.cli import _asked_to_end
from mrprism.core.workers import Workers, in_order
with _asked_to_end():
    list(in_order(partial(tasks.endless, Path(sys.argv[1])), range(2), Workers(2)))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_workers_end_with_whoever_started_them(how: signal.Signals, tmp_path: Path) -> None:
    """Each in the middle of its case, and it cleans up."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path)],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    while len(list(tmp_path.glob("begun-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(how)
    process.wait()
    while len(list(tmp_path.glob("cleaned-*"))) < 2:
        time.sleep(0.01)
    for begun in tmp_path.glob("begun-*"):
        while _lives(int(begun.read_text())):
            time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # whoever ended and is not yet waited for does not live
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
