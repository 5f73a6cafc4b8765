"""Batches in real processes: killed at random, resumed, and compared to the last byte."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
from html import escape
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import SimpleITK
from batch_runs import FINDINGS, PATIENCE, batch, content, ends, events, table, wait_for
from PIL import Image
from posix_only import on_posix

from fasttextdiff.batch.cases import CaseOptions, find_cases
from fasttextdiff.batch.cluster import ClusterWorkers
from fasttextdiff.batch.events import Outcome
from fasttextdiff.batch.folder import BatchFolder, Run
from fasttextdiff.batch.processes import LocalWorkers
from fasttextdiff.batch.runner import run_batch, shard_of
from fasttextdiff.batch.stopping import Stop
from fasttextdiff.errors import UsageError


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Four small CT volumes, a picture, and a truncated file with an intact header."""
    folder = tmp_path_factory.mktemp("studies")
    rng = np.random.default_rng(0)
    for n in range(4):
        image = SimpleITK.GetImageFromArray(rng.integers(-1000, 300, (2 + n % 2, 48, 40)).astype(np.int16))
        image.SetSpacing((0.8, 0.8, 2.0))
        (folder / f"study {n}").mkdir()
        SimpleITK.WriteImage(image, folder / f"study {n}" / "DOE^JANE.nrrd")
    Image.fromarray(rng.integers(0, 255, (60, 50), dtype=np.uint8)).save(folder / "film.png")
    whole = (folder / "study 0" / "DOE^JANE.nrrd").read_bytes()
    (folder / "DOE cut.nrrd").write_bytes(whole[: len(whole) * 3 // 4])
    return folder


@pytest.fixture(scope="module")
def undisturbed(studies, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole")
    process = batch(studies, output, *FINDINGS)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, errors  # the truncated file failed
    assert "1 of 6 cases failed" in errors
    return output


def test_every_case_is_reported_and_no_file_name_leaks(undisturbed):
    rows = table(undisturbed / "summary.csv")
    assert sorted(row["state"] for row in rows) == ["done"] * 10 + ["failed"]
    for path in undisturbed.rglob("*"):
        assert "DOE" not in path.name
        if path.is_file() and ".local." not in path.name:
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            assert not any(name in content for name in (b"DOE^", b"^JANE", b"DOE cut")), path
    names = table(undisturbed / "names.local.csv")
    assert sum("DOE" in row["path"] for row in names) == 5
    done = next(row for row in rows if row["state"] == "done" and row["ml"])
    record = json.loads((undisturbed / done["case"] / "case.json").read_text())
    assert record["provenance"]["created"] == "2023-11-14T22:13:20+00:00"
    for name, digest in record["outputs"].items():
        assert hashlib.sha256((undisturbed / done["case"] / name).read_bytes()).hexdigest() == digest


def test_the_summary_says_how_much_time_the_model_took(undisturbed):
    rows = [row for row in table(undisturbed / "summary.csv") if row["state"] == "done"]
    assert all(float(row["inference_s"]) > 0 and float(row["wait_s"]) >= 0 for row in rows)
    time_in = json.loads((undisturbed / "summary.json").read_text())["time"]
    by_case = {row["case"]: float(row["inference_s"]) for row in rows}
    assert time_in["model_s"] == pytest.approx(sum(by_case.values()), abs=0.01)
    assert 0 < time_in["model_share"] <= 1
    assert time_in["model_share"] == pytest.approx(time_in["model_s"] / time_in["workers_s"], abs=1e-3)


def test_a_page_shows_the_picture_and_the_numbers_of_its_case(undisturbed):
    record = next(json.loads(path.read_text()) for path in undisturbed.glob("*/case.json") if "ml" in path.read_text())
    name = record["case"]
    page = (undisturbed / name / f"{name}.html").read_text(encoding="utf-8")
    for found in record["findings"]:
        amount = f"{found['voxels']:,}" if found["ml"] is None else f"{found['ml']:,.3f}"
        uncertainty = "–" if found["uncertainty"] is None else str(found["uncertainty"])
        cells = (found["finding"], amount, str(found["presence"]), uncertainty)
        assert "".join(f"<td>{cell}</td>" for cell in cells) in page
        assert all(escape(f"{found['finding']}: {warning}") in page for warning in found["warnings"])
    for text in ("Research use only", record["provenance"]["weights_sha256"], record["provenance"]["created"]):
        assert text in page
    shown, drawn = (Image.open(file) for file in (inlined(page), undisturbed / name / f"{name}.png"))
    assert np.array_equal(np.asarray(shown), np.asarray(drawn))
    assert "://" not in page  # no downloads


def inlined(page):
    """The picture inside a page."""
    return io.BytesIO(base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', page)[1]))


@on_posix
def test_a_batch_killed_repeatedly_ends_with_the_same_results(studies, undisturbed, tmp_path):
    for moment in ({"event": "plan"}, {"event": "case", "state": "started"}, {"event": "case", "state": "done"}):
        process = batch(studies, tmp_path / "out", *FINDINGS, "--json")
        wait_for(process, moment)  # killed while the model is loaded, during the first case, and between two
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = batch(studies, tmp_path / "out", *FINDINGS)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert content(tmp_path / "out") == content(undisturbed)


def test_two_workers_and_two_shards_give_the_same_results_as_one(studies, undisturbed, tmp_path):
    for shard in ("1/2", "2/2"):
        process = batch(studies, tmp_path / "out", *FINDINGS, "--workers", "2", "--shard", shard)
        process.communicate(timeout=PATIENCE)
        timings = (tmp_path / "out" / f"timings-{shard.replace('/', '-of-')}.csv").read_text().split()
        assert len({line.rsplit(",", 1)[1] for line in timings}) == 2  # no worker was idle
    assert content(tmp_path / "out") == content(undisturbed)


def test_a_batch_runs_where_torch_cannot_be_loaded(studies, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with mock.patch.dict(os.environ, PYTHONPATH=path):
        process = batch(studies / "film.png", tmp_path / "out", "-f", "left lung")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors


@on_posix
def test_a_second_run_is_refused_while_one_runs_and_so_is_another_request(studies, undisturbed, tmp_path):
    first = batch(studies, tmp_path / "out", *FINDINGS)
    while not (tmp_path / "out" / "batch.json").is_file():
        assert first.poll() is None
        time.sleep(0.05)
    second = batch(studies, tmp_path / "out", *FINDINGS)
    _, errors = second.communicate(timeout=PATIENCE)
    assert second.returncode == 2
    assert "a batch is running" in errors
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    other = batch(studies, undisturbed, "-f", "left lung", "--format", ".png")
    _, errors = other.communicate(timeout=PATIENCE)
    assert other.returncode == 2
    assert "holds a batch with formats .seg.nrrd, .nii.gz, .png, .html, not .png: choose another" in errors


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_dry_run_writes_nothing(studies, tmp_path, options):
    process = batch(studies, tmp_path / "out", *FINDINGS, "--dry-run", *options)
    shown, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "left lung" in shown
    assert not (tmp_path / "out").exists()
    if options:
        *looking, plan = events(shown.splitlines())
        assert {received["event"] for received in looking} == {"looking"}
        assert (plan["event"], len(plan["cases"]), plan["skipped"]) == ("plan", 6, [])


def test_another_program_gets_every_event_on_standard_output(studies, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("study 0/DOE^JANE.nrrd", "DOE cut.nrrd"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes((studies / name).read_bytes())
    (tmp_path / "in" / "empty.dcm").touch()
    process = batch(tmp_path / "in", tmp_path / "out", *FINDINGS, "--json")
    shown, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, errors
    received = [event for event in events(shown.splitlines()) if event["event"] != "looking"]
    plan, end = received[0], received[-1]
    assert plan["skipped"] == [{"path": f"{tmp_path}/in/empty.dcm", "series_uid": "", "reason": "the file is empty"}]
    cut, whole = (case["case"] for case in plan["cases"])
    assert [case["state"] for case in plan["cases"]] == ["waiting", "waiting"]
    assert plan["cases"][1]["findings"] == ["left lung", "opacity in the right lung"]
    states = {name: [e["state"] for e in received if e.get("case") == name] for name in (cut, whole)}
    assert states == {cut: ["started", "started", "failed"], whole: ["started", "done"]}
    done = next(event for event in received if event.get("state") == "done")
    assert done["findings"] == json.loads((tmp_path / "out" / whole / "case.json").read_text())["findings"]
    assert done["seconds"]["inference"] > 0
    paces = [event for event in received if event["event"] == "progress"]
    assert [(pace["done"] + pace["failed"], pace["left"]) for pace in paces] == [(0, 2), (1, 1), (2, 0)]
    assert paces[0]["per_hour"] is None
    assert paces[1]["per_hour"] > 0
    assert paces[1]["seconds_left"] > 0
    assert (end["event"], end["state"], end["done"], end["failed"], end["skipped"]) == ("end", "complete", 1, 1, 1)
    assert table(Path(end["summary_csv"]))
    request = json.loads((tmp_path / "out" / "request.local.json").read_text())
    assert request["source"] == str(tmp_path / "in")
    assert request["findings"] == ["left lung", "opacity in the right lung"]

    other = batch(tmp_path / "in", tmp_path / "out", "-f", "heart", *FINDINGS[4:], "--json")
    shown, errors = other.communicate(timeout=PATIENCE)
    assert other.returncode == 2
    error = events(shown.splitlines())[-1]
    assert (error["event"], error["exit_code"]) == ("error", 2)
    assert "was done with other findings" in error["message"]
    assert error["message"] in errors


@on_posix
def test_a_batch_ends_with_the_program_that_started_it_and_resumes_with_the_same_results(
    studies, undisturbed, tmp_path
):
    process = batch(studies, tmp_path / "out", *FINDINGS, "--json", "--until-eof", stdin=subprocess.PIPE)
    wait_for(process, {"event": "case", "state": "done"})
    shown, errors = process.communicate(timeout=PATIENCE)  # closes its input
    assert process.returncode == 130, errors
    assert "rerun the same command to resume" in errors
    end = events(shown.splitlines())[-1]
    assert (end["event"], end["state"]) == ("end", "stopped")
    assert end["left"] > 0
    cases = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    assert cases
    assert all((case / "case.json").exists() or (case / "failed.log").exists() for case in cases)
    assert ends(process.pid)

    process = batch(studies, tmp_path / "out", *FINDINGS, "--json", stdin=subprocess.PIPE)
    wait_for(process, {"event": "case", "state": "started"})
    process.kill()  # it alone, not its workers
    process.communicate()
    assert ends(process.pid)

    process = batch(studies, tmp_path / "out", *FINDINGS)
    process.communicate(timeout=PATIENCE)
    assert content(tmp_path / "out") == content(undisturbed)


RUN = Run("", "0" * 16, (".png",), "cpu", "float32", False, "2026-01-01T00:00:00+00:00")


def deadly(pipe, folder, run, threads):
    """A worker that dies at the case whose name ends in the run's model, and does nothing else."""
    while True:
        case = pipe.recv()
        if case.name == run.model:
            os.kill(os.getpid(), signal.SIGKILL)
        pipe.send(Outcome(case.name))


def full_disk(pipe, folder, run, threads):
    while True:
        pipe.send(Outcome(pipe.recv().name, "cannot write: no space left on device", fatal=True))


@on_posix
def test_a_case_that_kills_its_worker_is_identified_and_the_others_are_done(studies, tmp_path):
    plan = find_cases(studies, ["left lung"], CaseOptions())
    culprit = plan.cases[2].name
    run = Run(culprit, *[getattr(RUN, name) for name in list(Run.__dataclass_fields__)[1:]])
    outcomes = list(LocalWorkers(tmp_path, run, 2, serve=deadly).outcomes(plan.cases))
    assert sorted(o.name for o in outcomes) == sorted(case.name for case in plan.cases)
    assert [o.name for o in outcomes if o.message] == [culprit]
    assert "died" in next(o.message for o in outcomes if o.message)


def test_a_full_disk_stops_the_batch_and_fails_no_case(studies, tmp_path):
    plan = find_cases(studies, ["left lung"], CaseOptions())
    folder = BatchFolder(tmp_path / "out")
    with pytest.raises(Exception, match="rerun the same command to resume"):
        run_batch(plan, folder, RUN, LocalWorkers(folder.path, RUN, 1, serve=full_disk))
    assert not any(folder.failure(case.name) for case in plan.cases)


def test_shards_partition_the_cases():
    cases = list(range(10))
    assert sorted(case for k in (1, 2, 3) for case in shard_of(cases, (k, 3))) == cases


@on_posix
def test_a_cluster_gives_the_same_results_and_survives_the_loss_of_a_worker(studies, undisturbed, tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        mock.patch.dict(os.environ),  # Dask sets OMP_NUM_THREADS here and does not restore it
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50,
            local_directory=tmp_path / "dask",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        victim, _ = client.run(os.getpid).values()
        process = batch(studies, tmp_path / "out", *FINDINGS, "--scheduler", cluster.scheduler_address, "--json")
        while not list((tmp_path / "out").glob("*/case.json")):
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(victim, signal.SIGKILL)
        shown, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    received = [event for event in events(shown.splitlines()) if event["event"] == "case"]
    states = {(event["case"], event["state"]) for event in received}
    assert {case for case, state in states if state == "started"} == {event["case"] for event in received}
    assert sorted(state for _, state in states if state != "started") == ["done"] * 5 + ["failed"]
    assert content(tmp_path / "out") == content(undisturbed)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A test authority and a certificate that it signed: (authority, certificate, key)."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    folder = tmp_path_factory.mktemp("certificates")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for command in (
        ["req", "-x509", *new_key, "-days", "2", "-subj", "/CN=authority", "-keyout", "ca-key.pem", "-out", "ca.pem"],
        ["req", *new_key, "-subj", "/CN=member", "-keyout", "key.pem", "-out", "request.pem"],
        ["x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2",
         "-out", "cert.pem"],
    ):  # fmt: skip
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return [str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem")]


def test_a_cluster_with_certificates_serves_only_trusted_clients(studies, undisturbed, certificates, tmp_path):
    distributed = pytest.importorskip("distributed")
    ca, cert, key = certificates
    ours = {f"tls_{role}_{what}": file for role in ("client", "scheduler", "worker")
            for what, file in (("cert", cert), ("key", key))}  # fmt: skip
    security = distributed.Security(tls_ca_file=ca, require_encryption=True, **ours)
    (tmp_path / "in").mkdir()
    shutil.copytree(studies / "study 0", tmp_path / "in" / "study 0")
    with (
        mock.patch.dict(os.environ),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, protocol="tls://", security=security,
            dashboard_address=None, silence_logs=50, local_directory=tmp_path / "dask",
        ) as cluster,
    ):  # fmt: skip
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        arguments = (tmp_path, RUN, address, Stop())
        for certificates, words in (
            ((None, None, None), "needs --tls-ca-file"),
            ((ca, None, None), "go together"),
            ((ca, cert, "gone.pem"), "no such file"),
            ((cert, cert, key), "rejects our certificate"),
        ):
            with pytest.raises(UsageError, match=words):
                ClusterWorkers(*arguments, certificates)
        process = batch(
            tmp_path / "in", tmp_path / "out", *FINDINGS, "--scheduler", address,
            "--tls-ca-file", ca, "--tls-cert", cert, "--tls-key", key,
        )  # fmt: skip
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
    (record,) = (tmp_path / "out").glob("*/case.json")
    assert json.loads(record.read_text()) == json.loads((undisturbed / record.parent.name / "case.json").read_text())
