"""What machines hand over: a folder and a bucket of a real S3 service, and what settings refuse."""

import importlib.util
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import polars as pl
import pytest
from bucket import KEYS, bucket, service
from openai_server import MODEL, serving
from serving import wait_for
from tiny import write_tasks

from locus.budget import Budget, Estimate, Ledger, Spent
from locus.evaluation.catalogue import read_catalogue
from locus.evaluation.failure import Failure
from locus.evaluation.jobs import Job, JobFolder, Limits, Parts, Report, Wanted
from locus.evaluation.remote import Machine, WrongMachineError, agreed_versions, run_job
from locus.evaluation.request import EvaluationRequest
from locus.storage import StorageAddressError, StorageError, check_address, open_storage
from tasks.settings import SettingsError, load_settings

RUN = "0f0e0d0c-0000-4000-8000-000000000001"
NAME = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with bucket("locus-tests") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield "s3://locus-tests/some/prefix"


@pytest.mark.parametrize("kind", ["folder", "file", "s3"])
def test_objects_parts_and_jobs(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    shared = tmp_path / "with a space"
    address = {"folder": str(shared), "file": shared.as_uri()}.get(kind)
    storage = open_storage(address or request.getfixturevalue("s3"))
    assert storage.get("a/b") is None
    assert storage.names("a") == []
    storage.put("a/b", b"one")
    storage.put("a/b", b"two")
    storage.put("a/c/d", b"three")
    storage.put("ab", b"four")
    assert storage.get("a/b") == b"two"
    assert storage.names("a") == ["a/b", "a/c/d"]
    for name in ("a/b", "a/b", "a/c/d"):
        storage.remove(name)
    assert storage.names("a") == []
    assert storage.get("ab") == b"four"

    # Two attempts at the same part: neither is lost, the first that is fetched counts.
    parts = Parts(storage, "parts/model")
    for content in (b"mine", b"yours"):
        (tmp_path / f"{NAME}.parquet").write_bytes(content)
        parts.bring(tmp_path / f"{NAME}.parquet")
    assert len(storage.names("parts/model")) == 2
    here = tmp_path / "here"
    assert parts.fetch(here) == [here / f"{NAME}.parquet"]
    first = (here / f"{NAME}.parquet").read_bytes()
    assert first in (b"mine", b"yours")
    assert parts.fetch(here) == [here / f"{NAME}.parquet"]
    # Damaged ones and names that are none of ours are left alone.
    storage.put(f"parts/model/{NAME[::-1]}-{'0' * 64}.parquet", b"cut o")
    storage.put("parts/model/stranger.parquet", b"stranger")
    assert parts.fetch(here) == [here / f"{NAME}.parquet"]
    assert "is damaged" in caplog.text
    assert [p.name for p in here.iterdir()] == [f"{NAME}.parquet"]
    parts.remove([here / f"{NAME}.parquet"])
    assert len(storage.names("parts/model")) == 2

    folder = JobFolder.at(JobFolder(storage, f"{RUN}-1").address)
    assert folder.job() is folder.wanted() is folder.report() is None
    limits = Limits(60, 6, Budget(queries=3, usd=0.5), Estimate(tokens=2.5, usd=0.1))
    job = Job({"run_id": RUN}, limits, "parts/model", {"locus-map": "another"})
    folder.give(job)
    folder.want(Wanted(7, ask=False))
    report = Report(1, "host", 2, 3, None, Spent(2, 5, 0.1), error="no", kind=Failure.TIME)
    folder.tell(report)
    assert (folder.job(), folder.wanted(), folder.report()) == (job, Wanted(7, False), report)
    # A machine with other versions leaves it to others.
    with pytest.raises(WrongMachineError, match="locus-map another"):
        run_job(folder.address, Machine())
    folder.take_back()
    assert storage.names("jobs") == []
    assert run_job(folder.address, Machine()).stopped == "the job was taken back before it began"


def test_storage_that_goes_away_in_the_middle_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The service stops listening while parts are brought, and comes back: nothing is lost."""
    tasks = write_tasks(tmp_path / "tasks")
    ids = read_catalogue(["tiny_copy"], [tasks])[1]["query_id"].sort().to_list()[:6]
    for name, value in {**KEYS, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    with serving() as asked, ThreadPoolExecutor(1) as pool:
        asked.delay_s = 0.3
        with service() as url:
            monkeypatch.setenv("AWS_ENDPOINT_URL", url)
            boto3.client("s3", endpoint_url=url).create_bucket(Bucket="locus-gone")
            storage = open_storage("s3://locus-gone/some/prefix")
            folder, parts = JobFolder(storage, f"{RUN}-2"), Parts(storage, "parts/model")
            request = EvaluationRequest(
                run_id=RUN, model_id="org/served", revision="unversioned",
                backend="local-chat-completions",
                args={"model": MODEL, "base_url": f"{asked.root}/chat/completions",
                      "num_concurrent": 1},
                queries={"tiny_copy": ids}, parts="parts/model", task_folders=[str(tasks)],
                chunk_size=2,
            )  # fmt: skip
            request.write(tmp_path / "job.json")
            job = json.loads((tmp_path / "job.json").read_text())
            limits = Limits(60, 30, Budget(), Estimate(1))
            folder.give(Job(job, limits, "parts/model", agreed_versions()))
            folder.want(Wanted(0))
            ended = pool.submit(run_job, folder.address, Machine(threads=1))
            wait_for(folder.report)
            folder.want(Wanted(1))
            wait_for(lambda: storage.names("parts/model"))
        with pytest.raises(StorageError, match=r"locus-gone.*AWS_ENDPOINT_URL"):
            parts.fetch(tmp_path / "here")
        wait_for(lambda: len(asked.asked) == 6)
        with service(urlsplit(url).port or 0):
            report = ended.result(60)
            found = parts.fetch(tmp_path / "here")
    assert (report.ended, report.error, report.stopped, report.done) == (True, None, None, 6)
    assert "s3://locus-gone/some/prefix: " in caplog.text
    rows = pl.concat([pl.read_parquet(path) for path in found])
    assert sorted(rows["query_id"]) == ids
    assert len(set(asked.prompts())) == len(asked.asked) == 6


def test_what_is_lent_is_what_was_set_aside() -> None:
    ledger = Ledger(Budget(tokens=1000), clock=lambda: 0.0)
    purse = ledger.purse("a", Budget(queries=30, minutes=2), Estimate(20, 0.5, measured=True))
    assert purse.allow(80) == 30
    lent, each = purse.lent()
    assert lent == Budget(queries=30, tokens=600, usd=None, minutes=2)
    assert each == Estimate(20, 0.5, measured=True)
    # Nobody else is given what lies aside, and all of it is there again after.
    other = ledger.purse("b", Budget(), Estimate(20, 0.5, measured=True))
    assert other.allow(80) == 20
    purse.settle(Spent(10, 150, 1.0))
    other.close()
    assert other.allow(80) == 42
    # What was lent does for all queries that it was set aside for.
    there = Ledger(Budget()).purse("a", lent, each)
    assert [there.allow(10), there.settle(Spent(10, 200)), there.allow(99)] == [10, None, 20]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://host/x", "unknown protocol 'ftp'.*s3://"),
        ("s3:///prefix", "names no bucket"),
        ("s3://key:secret@bucket/x", "AWS_ACCESS_KEY_ID"),
        ("file://host/x", "whole path"),
        (" ", "is empty"),
    ],
)
def test_addresses_that_are_none(
    address: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageAddressError, match=said):
        open_storage(address)
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))
    (tmp_path / "locus.toml").write_text(f'[evaluation]\nstorage = "{address}"\n')
    with pytest.raises(SettingsError, match=said) as caught:
        load_settings()
    assert "secret" not in str(caught.value).replace("AWS_SECRET_ACCESS_KEY", "")


def test_where_storage_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))
    assert load_settings().storage == str(tmp_path / "data" / "pool")
    (tmp_path / "locus.toml").write_text('[evaluation]\nstorage = "shared"\npool = "gpus"\n')
    assert load_settings().storage == str(tmp_path / "shared")
    # As where the package isn't installed.
    monkeypatch.setattr("locus.storage.find_spec", lambda name: None)
    assert importlib.util.find_spec("s3fs") is not None
    with pytest.raises(StorageAddressError, match=r"locus-map\[s3\]"):
        check_address("s3://bucket/x")


def test_storage_that_refuses_is_named(tmp_path: Path, s3: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="file"):
        open_storage(str(tmp_path / "file")).put("a/b", b"")
    with pytest.raises(StorageError, match="nobodys-bucket"):
        open_storage("s3://nobodys-bucket/x").put("a/b", b"")
