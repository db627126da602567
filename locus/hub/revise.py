"""Another commit for an entry of `models.yaml`; everything else in the file stays as it is."""

from pathlib import Path
from typing import TYPE_CHECKING

from locus.durable import whole_file
from locus.registry import RegistryError, load_registry

if TYPE_CHECKING:
    import yaml


def replace_revision(path: Path, model: str, revision: str) -> None:
    """Replace the revision of a model in `models.yaml`, in one step.

    Only the text of that one value changes; comments, order, line ends and writing stay. The
    result is read back: had anything else changed, such as another model that shares the value by
    a YAML anchor, nothing is written.

    Args:
        path: the registry.
        model: id of a model with a ``revision`` in its entry.
        revision: the new one, such as a commit.

    Raises:
        RegistryError: no valid registry, no such model, or its revision can't be replaced by
            itself; says what to write by hand.
    """
    import yaml

    before = load_registry(path)
    spec = next((one for one in before if one.id == model), None)
    if spec is None:
        raise RegistryError(f"{model!r} is not in {path}")
    text = path.read_bytes().decode()
    node = _scalar(yaml.compose(text, Loader=yaml.SafeLoader), model)
    if node is None:
        raise _by_hand(path, model, revision)
    # Forty digits without a letter are a number to YAML.
    plain = yaml.safe_load(revision) == revision
    changed = (
        text[: node.start_mark.index]
        + (revision if plain else f"'{revision}'")
        + text[node.end_mark.index :]
    )
    wanted = [
        {**one.model_dump(), "revision": revision} if one.id == model else one.model_dump()
        for one in before
    ]
    with whole_file(path) as stream:
        stream.write(changed.encode())
        stream.flush()
        try:
            right = [one.model_dump() for one in load_registry(Path(stream.name))] == wanted
        except RegistryError as error:
            raise _by_hand(path, model, revision) from error
        if not right:
            raise _by_hand(path, model, revision)


def _scalar(root: object, model: str) -> "yaml.ScalarNode | None":
    """Where a model's revision stands."""
    import yaml

    def value(node: object, key: str) -> object:
        if isinstance(node, yaml.MappingNode):
            for name, content in node.value:
                if isinstance(name, yaml.ScalarNode) and name.value == key:
                    return content
        return None

    models = value(root, "models")
    for node in models.value if isinstance(models, yaml.SequenceNode) else ():
        named = value(node, "id")
        if isinstance(named, yaml.ScalarNode) and named.value == model:
            found = value(node, "revision")
            return found if isinstance(found, yaml.ScalarNode) else None
    return None


def _by_hand(path: Path, model: str, revision: str) -> RegistryError:
    return RegistryError(
        f"the revision of {model!r} in {path} is not written so that it can be replaced by itself; "
        f"write this into its entry by hand: revision: {revision!r}"
    )
