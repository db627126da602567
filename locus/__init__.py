"""The method and everything computed: encodings, embeddings, routing, similarity, reports.

Nothing here knows Prefect, DuckDB or where files live; callers hand in frames, arrays and folders.
"""
