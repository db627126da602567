"""YAML as strangers write it: what it holds, or the one error that it can't be read."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

VALUES_MOST = 1_000_000
"""Values of a document, every use of an anchor counted with all that it stands for."""

# What PyYAML raises, besides its own errors, of a scalar that is not what its tag or look says.
_NO_SCALAR = (ValueError, OverflowError, LookupError, AttributeError, TypeError)


class DocumentError(ValueError):
    """Text that can't be read as YAML; the message is one line."""


def read_document(text: str) -> Any:
    """What a YAML document holds, in plain types; no tag makes an object or runs anything.

    Raises:
        DocumentError: it is no YAML, is nested too deeply, or its anchors stand for more than
            `VALUES_MOST` values: a few lines of them can stand for more than any memory holds.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > VALUES_MOST:
            raise DocumentError(f"its anchors stand for more than {VALUES_MOST} values")
        return loader.construct_document(node)
    except DocumentError:
        raise
    except RecursionError as error:
        raise DocumentError("it is nested too deeply") from error
    except yaml.YAMLError as error:
        raise DocumentError(_one_line(error)) from error
    except _NO_SCALAR as error:
        said = f"a value is not what its tag or form says ({_one_line(error)})"
        raise DocumentError(said) from error


def _size(node: "yaml.Node", known: dict[int, int]) -> int:
    """Values in a node; ``known`` are those counted, by their identity, 0 while one is counted."""
    size = known.get(id(node))
    if size == 0:
        raise DocumentError("an anchor stands in itself")
    if size is None:
        known[id(node)] = 0
        parts: list[Any] = node.value if isinstance(node.value, list) else []
        inner = [one for part in parts for one in (part if isinstance(part, tuple) else (part,))]
        size = known[id(node)] = 1 + sum(_size(one, known) for one in inner)
    return size


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__
