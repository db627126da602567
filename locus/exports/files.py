"""The folder of an export: what may be written into it, and how."""

from pathlib import Path

from locus.durable import whole_file
from locus.exports.answers import ExportFile


class ExportFolderError(ValueError):
    """A folder that nothing is written into; says why and what to do."""


def check_folder(folder: Path, *, overwrite: bool) -> int:
    """Refuse a folder that holds something already, unless that is wanted.

    Args:
        folder: where the export goes; it need not be there.
        overwrite: allow a folder with content.

    Returns:
        How many entries it has.

    Raises:
        ExportFolderError: it is no folder, or has content and ``overwrite`` is not set.
    """
    if not folder.exists() and not folder.is_symlink():
        return 0
    if not folder.is_dir():
        raise ExportFolderError(f"{folder} is no folder: name a folder for the export")
    n = sum(1 for _ in folder.iterdir())
    if n and not overwrite:
        raise ExportFolderError(
            f"{folder} is not empty: name another folder, or use --overwrite to replace files of "
            "the same name in it"
        )
    return n


def write_file(folder: Path, file: ExportFile) -> bool:
    """Write one file, whole or not at all.

    Returns:
        Whether a file of that name was replaced.

    Raises:
        ExportFolderError: the path leaves the folder, through a link or by its parts, or the file
            can't be written.
    """
    if file.path.is_absolute() or ".." in file.path.parts:
        raise ExportFolderError(f"{file.path} leads out of {folder}")
    path = folder / file.path
    for parent in list(path.parents)[: len(file.path.parts) - 1]:
        if parent.is_symlink():
            raise ExportFolderError(
                f"{parent} is a link, and an export follows none: remove it, or name another folder"
            )
    if path.is_dir():
        raise ExportFolderError(f"{path} is a folder where a file belongs: name another folder")
    there = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as stream:
            stream.write(file.content)
    except OSError as error:
        raise ExportFolderError(
            f"{path} can't be written ({error}): make room or name another folder; what was "
            "written before is whole"
        ) from error
    return there
