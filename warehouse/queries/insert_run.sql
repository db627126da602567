-- A run begins; its rows are counted as they are merged.
INSERT INTO evaluation_run (
    run_id, kind, model_id, revision, started_at, status, n_planned, n_ok, n_other, settings,
    versions, git_sha
) VALUES (
    $run_id, $kind, $model_id, $revision, $started_at, 'running', $n_planned, 0, 0, $settings,
    $versions, $git_sha
);
