"""The registry of models to watch: `models.yaml`, validated at the edge.

A registry comes from people and from hub watchers, so nothing in it is trusted: ids are checked,
code from a model's repository is never run, a hub model is pinned to a commit, and no key is taken.
docs/models.md explains the file to users.
"""

from locus.registry.faults import RegistryError
from locus.registry.file import append_model, load_registry
from locus.registry.revision import folder_revision
from locus.registry.schema import EXAMPLES, registry_schema
from locus.registry.spec import ModelSpec, Scalar

__all__ = [
    "EXAMPLES",
    "ModelSpec",
    "RegistryError",
    "Scalar",
    "append_model",
    "folder_revision",
    "load_registry",
    "registry_schema",
]
