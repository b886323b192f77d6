"""Helper processes: which Python runs them, what they may answer, and that they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from r2maint.errors import ConfigError, R2MaintError
from r2maint.http import Guard
from r2maint.images import Allowance, Encoded, Job, Recipe, Skip, reencode_many, worker
from r2maint.processes import Failing, Helper, HelperFailed, find_python
from r2maint.verify.asking import asking_processes
from r2maint.verify.asking.asking_processes import ProbersApart
from r2maint.verify.asking.prober import Inquiry, Prober
from r2maint.verify.verdicts.outcomes import Level, Outcome
from tests.pictures import photo, saved
from tests.servers.websites import reply, site
from tests.worlds.helper_processes import LIES, ODD, ODD_ASKER, helpers, left_of

pytestmark = pytest.mark.thorough


ROOT = Path(__file__).resolve().parents[2]
ENCODER = "r2maint.images.encoding_child"
QUICK = Allowance(seconds=1)


def results(*bodies: bytes, python: str = "", workers: int = 1) -> list:
    jobs = [Job(number, body, Recipe()) for number, body in enumerate(bodies)]
    many = reencode_many(jobs, workers=workers, allowance=QUICK, python=python)
    return [finished.result for finished in many]


def reason(result) -> str:
    return getattr(result, "reason", "")


# What it imports


@pytest.mark.parametrize("module", [ENCODER, "r2maint.verify.asking.asking_child"])
def test_a_helper_imports_no_django_and_no_sdk(module):
    program = f"import sys, {module}; print({{'django', 'boto3', 'requests'}} & set(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "set()"


def test_nothing_in_the_working_directory_takes_the_place_of_a_module(tmp_path, monkeypatch):
    for name in ("json", "socket", "PIL", "r2maint", "runpy", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert isinstance(results(saved(photo()))[0], Encoded)


def test_a_helper_finds_what_its_parent_finds_by_a_relative_path(tmp_path, monkeypatch):
    (tmp_path / "down").mkdir()
    monkeypatch.chdir(tmp_path / "down")
    relative = [os.path.relpath(path) for path in sys.path if path]
    monkeypatch.setattr(sys, "path", relative)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert isinstance(results(saved(photo()))[0], Encoded)


# Which Python


@pytest.fixture
def wrapper(tmp_path) -> tuple[Path, Path]:
    """A program that runs this Python, and the file where it leaves a line each time."""
    program, log = tmp_path / "uwsgi", tmp_path / "log"
    program.write_text(f'#!/bin/sh\necho run >> {log}\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return program, log


def test_the_setting_names_the_interpreter(wrapper, monkeypatch):
    program, log = wrapper
    monkeypatch.setattr(sys, "executable", "/usr/sbin/apache2")
    assert isinstance(results(saved(photo()), python=str(program))[0], Encoded)
    assert log.read_text() == "run\n"


@pytest.mark.parametrize("name", ["uwsgi", "httpd", "", None])
def test_a_server_that_embeds_python_is_not_started_as_one(wrapper, monkeypatch, name):
    program, log = wrapper
    embedding = str(program.rename(program.with_name(name))) if name else name
    monkeypatch.setattr(sys, "executable", embedding)
    with pytest.raises(ConfigError, match=r"no Python.* Set R2MAINT\[\"PYTHON\"\]"):
        results(saved(photo()))
    assert not log.exists()
    assert not helpers(os.getpid())


OTHERS = {
    "no file": None,
    "a directory": "",
    "no program": "just text",
    "a program that ends": "#!/bin/sh\nexit 0\n",
    "a program that fails": "#!/bin/sh\nexit 2\n",
    "a program that chatters": "#!/bin/sh\nyes >&0\n",
    "a Python of another version": "#!{python}\nimport sys; sys.path[:] = {path}\nimport socket;"
    " from r2maint.processes.frames import send_frame;"
    " send_frame(socket.socket(fileno=0), {{'python': 'cpython-27'}}); input()\n",
    "a Python without Pillow": '#!/bin/sh\nexec {python} -S -P -c "import PIL"\n',
}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_another_program_than_a_python_of_ours_is_refused_in_a_sentence(tmp_path, text, capfd):
    program = tmp_path / "program"
    if text == "":
        program.mkdir()
    elif text is not None:
        program.write_text(text.format(python=sys.executable, path=sys.path))
        program.chmod(0o755 if text.startswith("#!") else 0o644)
    with pytest.raises(ConfigError, match="No helper process can be started") as caught:
        results(saved(photo()), python=str(program))
    assert str(program) in caught.value.message
    assert "PYTHON" in caught.value.hint
    assert not helpers(os.getpid())


@pytest.mark.parametrize("name", ["python3.11", "python", "pypy3", "python3-dbg"])
def test_a_python_is_told_by_its_name(monkeypatch, name):
    monkeypatch.setattr(sys, "executable", f"/usr/bin/{name}")
    assert find_python() == f"/usr/bin/{name}"
    assert find_python("/venv/bin/other") == "/venv/bin/other"


def test_urls_are_asked_here_where_no_python_is_but_nothing_is_decoded_here(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    with site(lambda _: [reply(404, b"")]) as web:
        guard = Guard(frozenset({web.address}))
        prober = ProbersApart(Prober(level=Level.HTTP, guard=guard))
        prober.start()
        asked = prober.verdicts(
            iter([Inquiry(f"{web.url}/a.png", "host")]), ours=False, heed=lambda: None
        )
        assert [verdict.outcome for verdict in asked] == [Outcome.DEAD]
    with pytest.raises(ConfigError, match="PYTHON"):
        ProbersApart(Prober(level=Level.CONTENT, guard=Guard())).start()
    with pytest.raises(ConfigError, match="No helper process"):
        ProbersApart(Prober(level=Level.HTTP, guard=Guard()), python="/nowhere/python").start()


# What it answers


@pytest.fixture
def odd(monkeypatch) -> None:
    """Encoders that answer what the bytes of a picture name."""
    monkeypatch.setattr(worker, "_PROGRAM", ODD)
    monkeypatch.setattr(worker, "_PATIENCE", 2.0)


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        *((name, "crashed") for name in ("garbage", "garbage inside", "too deep", "too much")),
        *((name, "crashed") for name in LIES),
        ("leave", "crashed"),
        ("nothing", "too_slow"),
        ("half", "too_slow"),
        ("print", "animated"),
    ],
)
def test_an_answer_that_is_none_costs_its_picture_alone(fault, wanted):
    found = results(b"ok", fault.encode(), b"ok", fault.encode(), b"ok")
    assert [reason(each) for each in found] == ["animated", wanted, "animated", wanted, "animated"]
    assert not helpers(os.getpid())


@pytest.mark.usefixtures("odd")
def test_a_helper_that_is_stopped_is_replaced():
    jobs = (Job(number, b"ok", Recipe()) for number in range(9))
    many = reencode_many(jobs, workers=1, allowance=QUICK)
    found = [reason(next(many).result)]
    (stopped,) = helpers(os.getpid())
    os.kill(stopped, signal.SIGSTOP)
    found += [reason(finished.result) for finished in many]
    assert found.count("too_slow") == 1
    assert found.count("animated") == 8
    assert left_of({stopped}) == set()


def test_a_helper_killed_between_two_pictures_costs_one_at_most():
    jobs = (Job(number, b"nothing", Recipe()) for number in range(9))
    many = reencode_many(jobs, workers=2)
    found = [reason(next(many).result)]
    for pid in helpers(os.getpid()):
        os.kill(pid, signal.SIGKILL)
    found += [reason(finished.result) for finished in many]
    assert set(found) <= {"unsupported", "out_of_memory", "crashed"}
    assert found.count("unsupported") >= 7


ODD_ANSWERS = {
    "more than was asked": [{"verdicts": [None, None, None]}],
    "no verdicts": [{"hosts": []}],
    "an outcome that is none": [{"verdicts": [["fine", 200, "", ""]]}],
    "an outcome of another type": [{"verdicts": [[{}, 200, "", ""]]}],
    "a status of another type": [{"verdicts": [["ok", "200", "", ""]]}],
    "a status that is none": [{"verdicts": [["ok", 10**30, "", ""]]}],
    "words of another type": [{"verdicts": [["ok", 200, ["x"], ""]]}],
    "too few parts": [{"verdicts": [["ok"]]}],
    "a text in place of a verdict": [{"verdicts": ["okay"]}],
    "hosts of another type": [{"verdicts": [None]}, {"hosts": [["host", {"asked": 1}]]}],
    "counts below none": [
        {"verdicts": [None]},
        {
            "hosts": [
                [
                    "host",
                    {
                        **dict.fromkeys(("asked", "unsure", "gone", "in_a_row", "not_asked"), -1),
                        "why": "",
                        "advice": "",
                    },
                ]
            ]
        },
    ],
    "no more hosts": [{"verdicts": [None]}, {"hosts": 5}],
    "nothing": [],
}


@pytest.mark.parametrize("answers", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_what_an_asker_may_not_say_ends_the_run_in_a_sentence(monkeypatch, answers):
    import json

    monkeypatch.setenv("ODD_ANSWER", json.dumps(answers))
    monkeypatch.setattr(asking_processes, "_PROGRAM", ODD_ASKER)
    monkeypatch.setattr(asking_processes, "_SILENCE_SECONDS", 2.0)
    with closing(ProbersApart(Prober(level=Level.HTTP, guard=Guard()), processes=1)) as prober:
        prober.start()
        with pytest.raises(R2MaintError, match="process that asks URLs ended"):
            list(prober.verdicts(iter([Inquiry()]), ours=True, heed=lambda: None))
    assert not helpers(os.getpid())


def test_verdicts_and_inquiries_cross_as_they_are():
    from r2maint.bucket import StoredObject
    from r2maint.journal.journal import now
    from r2maint.verify.asking.asking_messages import inquiry_of, packed_inquiry

    stored = StoredObject("a \udce9\U0001f600\n.png", 5, "e", now(), "STANDARD_IA")
    for inquiry in (Inquiry(), Inquiry("http://x/é", "x", stored, 7)):
        assert inquiry_of(packed_inquiry(inquiry)) == inquiry


# How it ends


def test_a_helper_is_gone_when_it_is_ended_whatever_it_does():
    helper = Helper(ENCODER)
    pids = set(helpers(os.getpid()))
    assert len(pids) == 1
    assert helper.end() == -signal.SIGKILL
    assert left_of(pids) == set()
    with pytest.raises(HelperFailed) as caught:
        helper.send({})
    assert caught.value.how is Failing.ENDED


def test_no_descriptor_is_left_open():
    results(b"", b"")
    before = sorted(os.listdir("/proc/self/fd"))
    results(*[b""] * 20, workers=3)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_it_works_in_a_thread_that_is_not_the_first():
    found = []
    thread = threading.Thread(target=lambda: found.extend(results(saved(photo()))))
    thread.start()
    thread.join()
    assert isinstance(found[0], Encoded)


DAEMON = """
import multiprocessing, os, sys
def work():
    from r2maint.images import Job, Recipe, reencode_many
    from r2maint.http import Guard
    from r2maint.verify.asking.asking_processes import ProbersApart
    from r2maint.verify.asking.prober import Inquiry, Prober
    from r2maint.verify.verdicts.outcomes import Level
    from tests.pictures import photo, saved
    from tests.worlds.helper_processes import helpers
    assert multiprocessing.current_process().daemon
    jobs = [Job(0, saved(photo()), Recipe()), Job(1, b"", Recipe())]
    many = reencode_many(jobs, workers=2)
    print(type(next(many).result).__name__, len(helpers(os.getpid())) > 0, flush=True)
    many.close()
    prober = ProbersApart(Prober(level=Level.HTTP, guard=Guard()), processes=2)
    prober.start()
    print(len(helpers(os.getpid())), list(prober.verdicts([Inquiry()], ours=True, heed=int)))
    prober.close()
    print(len(helpers(os.getpid())), flush=True)
child = multiprocessing.get_context("fork").Process(target=work, daemon=True)
child.start()
child.join(60)
"""


def test_it_works_in_a_daemonic_process():
    ran = subprocess.run(
        [sys.executable, "-c", DAEMON], capture_output=True, text=True, timeout=90, cwd=ROOT
    )
    assert (ran.stdout, ran.stderr) == ("Encoded True\n2 [None]\n0\n", "")


PARENT = """
import os, signal, sys
from r2maint.images import Job, Recipe, reencode_many, worker
from tests.worlds.helper_processes import FATEFUL, helpers
worker._PROGRAM = FATEFUL
def fork_that_stays():
    # Such as a worker of a server: it holds all of its parent's descriptors open.
    if sys.argv[2:] and os.fork() == 0:
        os.close(1)
        signal.pause()
many = reencode_many([Job(n, b, Recipe()) for n, b in enumerate([b"", b"stuck", b"stuck"])], workers=2)
next(many)
while len(helpers(os.getpid())) < 2:
    pass
fork_that_stays()
print(*helpers(os.getpid()), flush=True)
end = sys.argv[1]
if end == "exit":
    many.close()
elif end == "error":
    from contextlib import closing
    with closing(many):
        raise ZeroDivisionError
elif end == "at once":
    os._exit(3)
else:
    os.kill(os.getpid(), int(end))
    signal.pause()
"""


@pytest.mark.parametrize(
    "end", ["exit", "error", "at once", *(str(int(s)) for s in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGABRT, signal.SIGHUP))]
)  # fmt: skip
def test_helpers_end_with_their_parent_in_the_midst_of_a_picture(tmp_path, end):
    environment = os.environ | {"ATTEMPTS": str(tmp_path / "attempts")}
    ran = subprocess.run(
        [sys.executable, "-c", PARENT, end],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=90,
    )
    pids = {int(word) for word in ran.stdout.split()}
    assert len(pids) == 2
    assert left_of(pids) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="only this kernel tells of a parent's end")
def test_helpers_end_with_their_parent_though_a_fork_of_it_lives_on(tmp_path):
    environment = os.environ | {"ATTEMPTS": str(tmp_path / "attempts")}
    command = [sys.executable, "-c", PARENT, str(int(signal.SIGKILL)), "fork"]
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        pids = {int(word) for word in process.stdout.readline().split()}
        process.wait(60)
        assert len(pids) == 2
        assert left_of(pids) == set()
        os.killpg(process.pid, signal.SIGKILL)


def test_a_skip_is_told_with_its_size():
    (found,) = results(saved(photo((64, 64)), "WEBP"))
    assert found == Skip(reason=reason(found))
    assert (found.width, found.height) == (64, 64)
