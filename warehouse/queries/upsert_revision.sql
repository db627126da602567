-- Staged frame `incoming` -> model_revision. The time a version was first seen never changes;
-- it defaults to $now.
MERGE INTO model_revision AS old
USING (SELECT *, $now AS merged_at FROM incoming) AS new
ON old.model_id = new.model_id AND old.revision = new.revision
WHEN MATCHED THEN UPDATE SET
    backend = coalesce(new.backend, old.backend),
    backend_args = coalesce(CAST(new.backend_args AS JSON), old.backend_args)
WHEN NOT MATCHED THEN INSERT (model_id, revision, backend, backend_args, seen_at)
VALUES (
    new.model_id, new.revision, new.backend, CAST(new.backend_args AS JSON),
    coalesce(new.seen_at, new.merged_at)
);
