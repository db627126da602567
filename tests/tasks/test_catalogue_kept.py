"""The catalogue of tasks that a night keeps, so that the next one loads none of them."""

from pathlib import Path

import pytest
from tiny import write_tasks

from tasks.discover import CatalogueError, sync_catalogue
from tasks.settings import Settings


@pytest.mark.slow
def test_a_damaged_one_is_named_and_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = write_tasks(tmp_path / "tasks")
    settings = Settings(home=tmp_path / "home", tasks=["tiny_copy"], task_folders=[tasks])
    assert sync_catalogue.fn(settings) > 0
    [file] = settings.home.glob("catalogue/*/queries.parquet")
    whole, at = file.read_bytes(), file.stat().st_size // 2
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert sync_catalogue.fn(settings) == 0
    assert f"{file} is damaged: the tasks are read anew" in caplog.text
    assert file.read_bytes() == whole
    # What is whole is kept as it is.
    written = file.stat().st_ino
    assert sync_catalogue.fn(settings) == 0
    assert file.stat().st_ino == written
    with pytest.raises(CatalogueError, match=r"no folder .*nowhere: correct `task_folders`"):
        sync_catalogue.fn(settings.model_copy(update={"task_folders": [tmp_path / "nowhere"]}))
