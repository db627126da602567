-- A published snapshot.
INSERT INTO snapshot (
    snapshot_id, parent, created_at, manifest_sha256, checkpoint_id, n_models, n_queries, n_scores
) VALUES (
    $snapshot_id, $parent, $created_at, $manifest_sha256, $checkpoint_id, $n_models, $n_queries,
    $n_scores
);
