"""Names of exported files: safe, readable, never the same."""

import itertools
import re
from pathlib import Path, PurePosixPath

import pytest

from locus.exports.answers import ExportFile
from locus.exports.files import ExportFolderError, check_folder, write_file
from locus.exports.names import model_folders, task_names
from locus.ids import MODEL_ID_MAX, model_id

SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@-]*")


def test_ordinary_ids_are_named_as_the_harness_does() -> None:
    found = model_folders(["org/name-7b", "gpt2", "a/b.c/d"])
    assert found == {"org/name-7b": "org__name-7b", "gpt2": "gpt2", "a/b.c/d": "a__b.c__d"}


def test_ids_that_the_harness_would_mix_up_keep_apart() -> None:
    parts = ["a", "b", "_a", "a_", "A", "a__b", "a:b", "a.b", "con", "a."]
    ids = [*parts, *("/".join(pair) for pair in itertools.product(parts, parts))]
    ids = [model_id(text) for text in dict.fromkeys(ids)]
    found = model_folders(ids)
    assert len({name.casefold() for name in found.values()}) == len(ids)
    assert all(SAFE.fullmatch(name) for name in found.values())
    assert {found["a:b"], found["a__b"], found["con"], found["A"]}.isdisjoint(
        {"a__b", "con", "A", "a"}
    )


def test_the_longest_id_fits_a_file_name() -> None:
    longest = model_id("/".join(["x" * 49, "y.z" * 16, "_" * 50, "v:" * 25])[:MODEL_ID_MAX])
    assert len(model_folders([longest])[longest]) <= 255


@pytest.mark.parametrize("task", ["../../etc/passwd", "a/b", "a..b", "ä", "", ".x", "y" * 200])
def test_tasks_of_any_name_become_parts_of_file_names(task: str) -> None:
    name = task_names([task, "plain_task"])[task]
    assert SAFE.fullmatch(name)
    assert ".." not in name
    assert len(f"samples_{name}_2025-03-04T05-06-07.089000.jsonl") <= 255
    assert "@" in name


def test_tasks_that_differ_in_case_keep_apart() -> None:
    found = task_names(["Task", "task", "a b", "a_b"])
    assert len({name.casefold() for name in found.values()}) == 4
    assert found["a_b"] != found["a b"]


def test_a_folder_with_content_is_refused_unless_told(tmp_path: Path) -> None:
    assert check_folder(tmp_path / "new", overwrite=False) == 0
    (tmp_path / "old").write_text("mine")
    with pytest.raises(ExportFolderError, match="--overwrite"):
        check_folder(tmp_path, overwrite=False)
    assert check_folder(tmp_path, overwrite=True) == 1
    with pytest.raises(ExportFolderError, match="no folder"):
        check_folder(tmp_path / "old", overwrite=True)


def test_nothing_is_written_through_a_link_or_outside(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "model").symlink_to(outside)
    (outside / "kept").write_text("kept")
    (inside / "file").symlink_to(outside / "kept")
    for path in ("model/x", "../out/x", str(outside / "x")):
        with pytest.raises(ExportFolderError):
            write_file(inside, ExportFile(PurePosixPath(path), b"new", 0))
    assert write_file(inside, ExportFile(PurePosixPath("file"), b"new", 0))
    assert (inside / "file").read_text() == "new"
    assert (outside / "kept").read_text() == "kept"
    assert [path.name for path in outside.iterdir()] == ["kept"]


def test_a_file_that_can_t_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("a file where a folder belongs")
    with pytest.raises(ExportFolderError, match="can't be written"):
        write_file(tmp_path, ExportFile(PurePosixPath("model/x"), b"new", 0))
    (tmp_path / "x").mkdir()
    with pytest.raises(ExportFolderError, match="is a folder"):
        write_file(tmp_path, ExportFile(PurePosixPath("x"), b"new", 0))
