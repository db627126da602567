-- The current answer of one model to each query, with all that is known about query, task and run.
SELECT
    l.model_id, l.revision, l.query_id, l.status, l.score, l.metric, l.filter, l.metrics,
    l.response, l.latency_ms, l.tokens_in, l.tokens_out, l.cost_usd, l.doc_hash, l.prompt_hash,
    l.target_hash, l.scored_at,
    q.task, q.task_version, q.category, q.split, q.text, q.choices, q.target, q.doc, q.source_id,
    t.source, t.output_type, t.primary_metric, r.backend, r.backend_args,
    -- An import's versions are those of the importer, not of who evaluated.
    CASE WHEN e.kind NOT LIKE 'import%' THEN e.versions ->> '$.lm_eval' END AS harness_version
FROM latest_score AS l
JOIN query AS q USING (query_id)
LEFT JOIN task AS t ON t.task = q.task AND t.task_version = q.task_version
LEFT JOIN model_revision AS r ON r.model_id = l.model_id AND r.revision = l.revision
LEFT JOIN evaluation_run AS e ON e.run_id = l.run_id
WHERE l.model_id = $model_id
    AND ($tasks::VARCHAR[] IS NULL OR q.task IN (SELECT unnest($tasks::VARCHAR[])))
ORDER BY q.task, q.task_version, l.query_id
