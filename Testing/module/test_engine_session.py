"""Sending volumes to the real engine: exactly, once, and again after a restart."""

import numpy as np
import pytest

slicer = pytest.importorskip("slicerhost").start().slicer

from FastTextDiffSegmentLib.contract.answers import VolumeOpened  # noqa: E402 - texts are translated, so Slicer has to run

from FastTextDiffSegmentLib.engine.EngineClient import EngineError  # noqa: E402
from FastTextDiffSegmentLib.engine.EngineSession import VolumeSource  # noqa: E402
from FastTextDiffSegmentLib.engine.Jobs import Job, JobCancelled, JobRunner  # noqa: E402
from FastTextDiffSegmentLib.Logic import newSession  # noqa: E402


@pytest.fixture(scope="module")
def session():
    session = newSession()
    yield session
    session.close()


@pytest.fixture
def runner(session):
    return JobRunner(session.client.poll)


def done(runner, steps):
    return runner.wait(runner.start(Job(steps)))


def source(array, **fields):
    return VolumeSource(key=(array.tobytes(), *fields.values()), array=array, ijkToRas=np.eye(4), **fields)


@pytest.fixture
def film():
    voxels = np.random.default_rng(0).integers(0, 255, (2, 40, 48), np.uint8)
    return source(voxels.transpose(0, 2, 1)[:, ::-1], modality="xray")  # a view that is not contiguous


def test_a_volume_needed_by_several_jobs_is_sent_once_and_exactly(session, runner, film):
    done(runner, session.opened())
    jobs = [runner.start(Job(session.provided(film))) for _ in range(3)]
    assert len({runner.wait(job).volume for job in jobs}) == 1
    [folder] = session.folder.path.glob("volume-*")
    written = np.fromfile(folder / "voxels.raw", np.uint8).reshape(film.array.shape)
    np.testing.assert_array_equal(written, film.array)


def test_a_restarted_engine_gets_the_volume_again(session, runner, film):
    first = done(runner, session.provided(film))
    session.client.close()
    done(runner, session.opened())
    again = done(runner, session.provided(film))
    assert again == first
    output = done(runner, session.segmented(again, ["left lung"], (1, 2)))
    assert output.findings[0].probability.shape == (1, 48, 40)
    output.release()
    assert not list(session.folder.path.glob("output-*"))


def test_only_the_latest_volumes_are_kept(session, runner):
    done(runner, session.opened())
    for seed in range(4):
        voxels = np.random.default_rng(seed).integers(0, 255, (1, 32, 32), np.uint8)
        done(runner, session.provided(source(voxels, modality="xray")))
    assert len(list(session.folder.path.glob("volume-*"))) == 2


def test_a_full_disk_is_one_line_leaves_nothing_and_the_volume_can_be_sent_later(session, runner, film, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    other = source(film.array.copy() // 2, modality="xray")
    before = set(session.folder.path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("os.fdopen", full)
        with pytest.raises(EngineError, match="No space left on device"):
            done(runner, session.provided(other))
    assert set(session.folder.path.iterdir()) == before
    assert done(runner, session.provided(other)).volume


@pytest.mark.parametrize("steps", [1, 2])
def test_a_volume_forgotten_while_it_is_sent_is_nowhere_afterwards(session, runner, film, steps):
    """After 1 step its file is written, after 2 it was sent and is being opened by another job that waits too."""
    done(runner, session.opened())
    requests, send = [], session.client.send
    session.client.send = lambda request: requests.append(request) or send(request)
    try:
        fresh = source(film.array.copy() // (2 + steps), modality="xray")
        jobs = [runner.start(Job(session.provided(fresh))) for _ in range(2)]
        for _ in range(steps):
            runner.tick()
        [*_, folder] = sorted(session.folder.path.glob("volume-*"), key=lambda one: one.stat().st_mtime_ns)
        session.forgetVolumes()
        for job in jobs:
            with pytest.raises(JobCancelled):
                runner.wait(job)
    finally:
        del session.client.send
    assert not list(session.folder.path.glob("volume-*"))
    assert ("open_volume" in [each.op for each in requests]) == (steps > 1)
    gone = VolumeOpened(folder.name, "xray", False, None, ())
    with pytest.raises(EngineError, match="there is no volume"):
        done(runner, session.segmented(gone, ["left lung"], (0, 1)))


def test_a_volume_that_a_job_waits_for_is_not_removed_for_newer_ones(session, runner):
    done(runner, session.opened())
    found = []

    def exists(opened):
        found.append((session.folder.path / opened.volume / "voxels.raw").exists())

    jobs = []
    for seed in range(10, 13):
        voxels = np.random.default_rng(seed).integers(0, 255, (1, 32, 32), np.uint8)
        jobs.append(runner.start(Job(session.provided(source(voxels, modality="xray")), exists)))
    for job in jobs:
        runner.wait(job)
    assert found == [True] * 3
    assert len(list(session.folder.path.glob("volume-*"))) == 2
