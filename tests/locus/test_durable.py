"""A file is there whole or not at all."""

from pathlib import Path

import pytest

from locus.durable import whole_file


def test_old_or_new_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with whole_file(path) as stream:
        stream.write(b"one")
        assert not path.exists()
    with pytest.raises(RuntimeError, match="midway"), whole_file(path) as stream:
        stream.write(b"tw")
        raise RuntimeError("midway")
    assert path.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert path.stat().st_mode & 0o777 == 0o644
