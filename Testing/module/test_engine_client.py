"""The client of the engine's process, with small programs as engines: crashes, noise, cancelling, restarts."""

import os
import subprocess
import sys
import textwrap
import time

import pytest
from FastTextDiffSegmentLib.contract.answers import CheckedFinding
from FastTextDiffSegmentLib.contract.messages import PROTOCOL
from FastTextDiffSegmentLib.contract.requests import CheckFindings, CloseVolume

from FastTextDiffSegmentLib.engine.EngineClient import EngineClient, EngineError
from FastTextDiffSegmentLib.engine.EngineProcess import EngineProcess
from FastTextDiffSegmentLib.engine.Jobs import Job, JobCancelled, JobRunner
from FastTextDiffSegmentLib.engine.WorkFolder import WorkFolder

FIRST, SECOND = CloseVolume("first"), CloseVolume("second")
ANSWER = """
import json, sys
def say(**message):
    print(json.dumps(message), flush=True)
say(id=None, event="hello", protocol=PROTOCOL, version="1")
for line in sys.stdin:
    question = json.loads(line)
"""


def startedClient(folder, program, processes=None):
    """A client whose engine runs this program for each `question`; its processes are added to the list, if given."""
    code = ANSWER.replace("PROTOCOL", str(PROTOCOL)) + textwrap.indent(textwrap.dedent(program), "    ")

    def start():
        process = EngineProcess([sys.executable, "-c", code], os.environ, folder)
        if processes is not None:
            processes.append(process)
        return process

    client = EngineClient(start)
    return client, JobRunner(client.poll)


def asked(runner, client, request, **options):
    return runner.wait(runner.start(Job(client.ask(request, **options))))


def waitUntil(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.005)


def test_an_answer_comes_with_its_progress(tmp_path):
    client, runner = startedClient(
        tmp_path,
        """
        for done in (1, 2):
            say(id=question["id"], event="progress", done=done, total=2)
        say(id=question["id"], event="done", findings=[{"finding": f, "warning": ""} for f in question["findings"]])
        """,
    )
    progress, text = [], "Verschattung ≥ 3 cm | links"
    answer = asked(runner, client, CheckFindings(None, (text,), None), onProgress=lambda *at: progress.append(at))
    assert answer.findings == (CheckedFinding(text, ""),)
    assert progress in ([(2, 2)], [(1, 2), (2, 2)])
    client.close()


def test_a_crash_is_reported_in_one_line_and_the_next_request_starts_a_new_engine(tmp_path, caplog):
    client, runner = startedClient(
        tmp_path,
        """
        if question["volume"] == "first":
            print("CUDA error: out of luck", file=sys.stderr, flush=True)
            sys.exit(3)
        say(id=question["id"], event="done")
        """,
    )
    with pytest.raises(EngineError, match="stopped unexpectedly; nothing was changed") as failure:
        asked(runner, client, FIRST)
    assert failure.value.kind == "stopped"
    assert "\n" not in str(failure.value)
    assert "exit code 3. CUDA error: out of luck" in caplog.text  # for developers, not for the user
    assert not client.isRunning
    asked(runner, client, SECOND)
    assert client.generation == 2
    client.close()


def test_when_the_system_kills_the_engine_all_open_requests_fail(tmp_path):
    client, runner = startedClient(
        tmp_path,
        """
        if question["volume"] == "second":
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    jobs = [runner.start(Job(client.ask(request))) for request in (FIRST, SECOND)]
    for job in jobs:
        with pytest.raises(EngineError, match="stopped unexpectedly, probably because memory ran out;"):
            runner.wait(job)


def test_an_engine_that_ended_while_idle_is_replaced_silently(tmp_path):
    processes = []
    client, runner = startedClient(tmp_path, "say(id=question['id'], event='done')", processes)
    asked(runner, client, FIRST)
    processes[0].endInput()
    waitUntil(lambda: processes[0].exitCode is not None)
    assert not client.isRunning
    asked(runner, client, SECOND)
    assert client.generation == 2
    client.close()


def test_closing_the_client_cancels_open_requests(tmp_path):
    client, runner = startedClient(tmp_path, "pass")
    failed, ended = [], []
    job = runner.start(Job(client.ask(FIRST), onFailed=failed.append, onCancelled=lambda: ended.append(True)))
    runner.tick()
    client.close()
    with pytest.raises(JobCancelled):
        runner.wait(job)
    assert (failed, ended) == ([], [True])


def test_cancelling_waits_for_the_engine_to_stop_the_request(tmp_path):
    processes = []
    client, runner = startedClient(
        tmp_path,
        """
        if question["op"] == "cancel":
            say(id=question["id"], event="done")
            say(id=question["target"], event="cancelled")
        """,
        processes,
    )
    ended = []
    job = runner.start(Job(client.ask(FIRST), onCancelled=lambda: ended.append("cancelled")))
    runner.tick()
    job.cancel()
    with pytest.raises(JobCancelled):
        runner.wait(job)
    assert ended == ["cancelled"]
    processes[0].endInput()
    waitUntil(lambda: processes[0].exitCode is not None)
    assert not client.isRunning  # with an open request, this would wait for the next poll
    client.close()


def test_noise_in_the_output_is_skipped(tmp_path, caplog):
    client, runner = startedClient(
        tmp_path,
        """
        print("a library talks")
        print("[1, 2]", flush=True)
        say(id=99, event="done")
        say(id=None, event="error", kind="usage", message="a line was no request")
        say(id=question["id"], event="done")
        """,
    )
    asked(runner, client, FIRST)
    assert "a line was no request" in caplog.text
    client.close()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['{"event": "hello", "protocol": 1, "version": "0.7.0", "python": "3.11"}'], "(version 0.7.0, protocol 1)"),
        (['{"id": null, "event": "hello", "protocol": 99, "version": "9.0"}'], "(version 9.0, protocol 99)"),
        (['{"id": 1, "event": "done"}'], "(version unknown, protocol None)"),
        ([None, '{"id": 1, "event": "done", "seconds": 3}'], "there is no field 'seconds'"),
        ([None, '{"id": 1, "event": "finished"}'], "there is no event 'finished'"),
        ([None, '{"id": 1, "event": "progress", "done": "half", "total": 2}'], "'done' must be a whole number"),
    ],
)
def test_an_engine_of_another_version_is_refused_in_one_line(tmp_path, lines, words):
    hello = f'{{"id": null, "event": "hello", "protocol": {PROTOCOL}, "version": "1"}}'
    output = "\n".join(line or hello for line in lines)
    code = f"import sys; sys.stdin.readline(); print({output!r}, flush=True); sys.stdin.read()"
    client = EngineClient(lambda: EngineProcess([sys.executable, "-c", code], os.environ, tmp_path))
    with pytest.raises(EngineError) as refused:
        asked(JobRunner(client.poll), client, FIRST)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "Install the extension again" in str(refused.value)
    assert not client.isRunning


def test_a_missing_program_is_reported_in_one_line(tmp_path):
    client = EngineClient(lambda: EngineProcess([str(tmp_path / "no python")], os.environ, tmp_path))
    with pytest.raises(EngineError, match="could not be started"):
        asked(JobRunner(client.poll), client, FIRST)


def test_closing_ends_a_process_that_ignores_its_input(tmp_path):
    code = "import time\nwhile True: time.sleep(1)"
    process = EngineProcess([sys.executable, "-c", code], os.environ, tmp_path)
    process.close(patience=0.2)
    assert process.exitCode is not None


def test_a_finished_job_releases_what_it_held():
    class Large:
        pass

    import gc
    import weakref

    large = Large()
    watch = weakref.ref(large)

    def steps(held):
        yield
        return held is not None

    job = Job(steps(large), onDone=lambda result, held=large: None)
    while not job.isFinished:
        job.advance()
    del large
    gc.collect()
    assert watch() is None


def test_a_failed_job_reports_its_error_and_does_not_stop_others():
    failures = []

    def broken():
        yield
        raise ValueError("broken")

    def whole():
        for _ in range(3):
            yield
        return "whole"

    runner = JobRunner(lambda: None)
    runner.start(Job(broken(), onFailed=failures.append))
    assert runner.wait(runner.start(Job(whole()))) == "whole"
    assert [str(failure) for failure in failures] == ["broken"]


def test_the_exchange_folder_is_private_and_those_of_crashed_runs_are_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    crashed = tmp_path / f"FastTextDiffSegment-{ended.pid}-abc"
    running = tmp_path / f"FastTextDiffSegment-{os.getppid()}-abc"
    for folder in (crashed, running):
        folder.mkdir()
        (folder / "voxels.raw").write_bytes(b"patient")
    work = WorkFolder(str(tmp_path))
    assert not crashed.exists()
    assert running.exists()
    if os.name != "nt":
        assert work.path.stat().st_mode & 0o077 == 0
    work.close()
    assert not work.path.exists()
