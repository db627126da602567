"""DuckDB's engine without what its package puts around it.

The package adds relations and sources of frames to the engine's own module, and they take longer to
import than anything else that a command like `locus status` needs. Rows and values need neither;
whoever makes or takes frames calls `with_frames` first.
"""

try:
    from _duckdb import CatalogException, DuckDBPyConnection, Error, connect
except ImportError:  # a version of the package that keeps its engine elsewhere
    from duckdb import CatalogException, DuckDBPyConnection, Error, connect

__all__ = ["CatalogException", "DuckDBPyConnection", "Error", "connect", "with_frames"]


def with_frames() -> None:
    """Let connections give and take frames, those that are open already as well."""
    import duckdb  # noqa: F401  it adds to the engine's classes
