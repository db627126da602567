"""The warehouse: every score, vector and snapshot of the pipeline in one DuckDB file.

Belongs here: the connection, migrations, typed reads and writes (polars in and out), contracts on
what is written, the published copy and the console that runs users' SQL on it. Does not: the
method, scheduling, and where files live. Start at `warehouse.store.Warehouse`, or at
`warehouse.console.run_sql` to query a published copy. Nothing is imported here, so that the
console starts fast.
"""
