-- A new checkpoint; it becomes the active one in a second step.
INSERT INTO checkpoint (
    checkpoint_id, parent, created_at, state, encoder, config, metrics, n_models, n_queries,
    n_scores, git_sha
) VALUES (
    $checkpoint_id, $parent, $created_at, 'retired', $encoder, $config, $metrics, $n_models,
    $n_queries, $n_scores, $git_sha
);
