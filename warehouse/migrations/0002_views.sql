-- Views: what the tables mean, computed when it is asked for.

CREATE VIEW latest_score AS
SELECT
    s.run_id, s.model_id, s.revision, s.query_id, s.status, s.score, s.metric, s.filter, s.metrics,
    s.response, s.latency_ms, s.tokens_in, s.tokens_out, s.cost_usd, s.doc_hash, s.prompt_hash,
    s.target_hash, s.scored_at
FROM score AS s
LEFT JOIN model_revision AS r ON r.model_id = s.model_id AND r.revision = s.revision
-- The last three keys only settle ties, so that the same rows always give the same answer.
QUALIFY row_number() OVER (
    PARTITION BY s.model_id, s.query_id
    ORDER BY s.status = 'ok' DESC, r.seen_at DESC NULLS LAST, s.scored_at DESC,
        s.run_id DESC, s.metric, s.filter
) = 1;
COMMENT ON VIEW latest_score IS 'The current score of each model on each question: status ok before any other, then the newest revision of the model, then the newest row.';
COMMENT ON COLUMN latest_score.run_id IS 'Run that produced it.';
COMMENT ON COLUMN latest_score.model_id IS 'The model that answered.';
COMMENT ON COLUMN latest_score.revision IS 'Version of that model.';
COMMENT ON COLUMN latest_score.query_id IS 'The question.';
COMMENT ON COLUMN latest_score.status IS 'ok, error, refused, empty or truncated; not ok means that the model has no ok row for the question.';
COMMENT ON COLUMN latest_score.score IS 'From 0 (wrong) to 1 (right); NULL unless status is ok.';
COMMENT ON COLUMN latest_score.metric IS 'Metric behind the score.';
COMMENT ON COLUMN latest_score.filter IS 'Filter of the answer behind the score.';
COMMENT ON COLUMN latest_score.metrics IS 'All metrics of the answer as a JSON object.';
COMMENT ON COLUMN latest_score.response IS 'What the model answered; hostile text.';
COMMENT ON COLUMN latest_score.latency_ms IS 'Time to answer, in milliseconds.';
COMMENT ON COLUMN latest_score.tokens_in IS 'Number of input tokens.';
COMMENT ON COLUMN latest_score.tokens_out IS 'Number of output tokens.';
COMMENT ON COLUMN latest_score.cost_usd IS 'Cost of the call, in US dollars.';
COMMENT ON COLUMN latest_score.doc_hash IS 'Hash of the document.';
COMMENT ON COLUMN latest_score.prompt_hash IS 'Hash of the prompt.';
COMMENT ON COLUMN latest_score.target_hash IS 'Hash of the target.';
COMMENT ON COLUMN latest_score.scored_at IS 'When the answer was scored (UTC).';

CREATE VIEW model_accuracy AS
WITH per_task AS (
    SELECT l.model_id, q.task, q.task_version, count(*) AS n, avg(l.score) AS accuracy
    FROM latest_score AS l
    JOIN query AS q ON q.query_id = l.query_id
    WHERE l.status = 'ok'
    GROUP BY l.model_id, q.task, q.task_version
),
-- Wilson's interval at z = 1.959964 (95 %): it stays inside 0..1 and holds for small n.
wilson AS (
    SELECT
        *,
        1 + 3.841459 / n AS scale,
        accuracy + 3.841459 / (2 * n) AS centre,
        1.959964 * sqrt(accuracy * (1 - accuracy) / n + 3.841459 / (4 * n * n)) AS half
    FROM per_task
)
SELECT
    model_id, task, task_version, n, accuracy,
    greatest(0.0, (centre - half) / scale) AS accuracy_low,
    least(1.0, (centre + half) / scale) AS accuracy_high
FROM wilson;
COMMENT ON VIEW model_accuracy IS 'Accuracy of each model on each task, from latest_score with status ok, with its 95 % interval (Wilson).';
COMMENT ON COLUMN model_accuracy.model_id IS 'The model.';
COMMENT ON COLUMN model_accuracy.task IS 'The task.';
COMMENT ON COLUMN model_accuracy.task_version IS 'Version of the task.';
COMMENT ON COLUMN model_accuracy.n IS 'Number of questions answered with status ok.';
COMMENT ON COLUMN model_accuracy.accuracy IS 'Mean score, from 0 to 1.';
COMMENT ON COLUMN model_accuracy.accuracy_low IS 'Lower end of the 95 % interval.';
COMMENT ON COLUMN model_accuracy.accuracy_high IS 'Upper end of the 95 % interval.';

CREATE VIEW agreement AS
SELECT
    a.model_id AS model_a,
    b.model_id AS model_b,
    count(*) AS n_common,
    avg(CAST((a.score >= 0.5) = (b.score >= 0.5) AS INTEGER)) AS agreement,
    1 - avg(CAST((a.score >= 0.5) = (b.score >= 0.5) AS INTEGER)) AS disagreement
FROM latest_score AS a
JOIN latest_score AS b ON b.query_id = a.query_id AND b.model_id <> a.model_id
WHERE a.status = 'ok' AND b.status = 'ok'
GROUP BY a.model_id, b.model_id;
COMMENT ON VIEW agreement IS 'How often two models are right or wrong together. Each pair is there from both sides: filter on model_a, which is fast; add model_a < model_b to see each pair once.';
COMMENT ON COLUMN agreement.model_a IS 'One model; filter on this column.';
COMMENT ON COLUMN agreement.model_b IS 'The other model.';
COMMENT ON COLUMN agreement.n_common IS 'Number of questions that both answered with status ok.';
COMMENT ON COLUMN agreement.agreement IS 'Share of those questions where both scores fall on the same side of 0.5 (0.5 counts as right).';
COMMENT ON COLUMN agreement.disagreement IS 'One minus agreement.';

CREATE VIEW nearest_models AS
-- Distances first, ranks after: a window over the vectors themselves would carry them all along.
WITH pair AS (
    SELECT
        a.model_id,
        b.model_id AS neighbour_id,
        CAST(list_cosine_distance(a.vector, b.vector) AS DOUBLE) AS distance
    FROM model_embedding AS a
    JOIN model_embedding AS b ON b.checkpoint_id = a.checkpoint_id AND b.model_id <> a.model_id
    JOIN checkpoint AS c ON c.checkpoint_id = a.checkpoint_id AND c.state = 'active'
),
ranked AS (
    SELECT
        model_id, neighbour_id, distance,
        row_number() OVER (PARTITION BY model_id ORDER BY distance, neighbour_id) AS rank
    FROM pair
)
SELECT model_id, neighbour_id, distance, rank FROM ranked WHERE rank <= 10;
COMMENT ON VIEW nearest_models IS 'The ten nearest neighbours of each model among the embeddings of the active checkpoint.';
COMMENT ON COLUMN nearest_models.model_id IS 'The model.';
COMMENT ON COLUMN nearest_models.neighbour_id IS 'A model that behaves like it.';
COMMENT ON COLUMN nearest_models.distance IS 'Cosine distance of the two embeddings, from 0 (same direction) to 2 (opposite).';
COMMENT ON COLUMN nearest_models.rank IS '1 for the nearest, up to 10.';

CREATE VIEW coverage AS
WITH per_task AS (
    SELECT
        q.task, q.task_version,
        count(DISTINCT q.query_id) AS n_queries,
        count(DISTINCT l.model_id) AS n_models,
        count(l.query_id) AS n_scores
    FROM query AS q
    LEFT JOIN (SELECT model_id, query_id FROM latest_score WHERE status = 'ok') AS l
        ON l.query_id = q.query_id
    GROUP BY q.task, q.task_version
)
SELECT
    task, task_version, n_queries, n_models,
    (SELECT count(*) FROM model) - n_models AS n_models_without,
    n_scores,
    coalesce(n_scores / nullif(n_queries * n_models, 0), 0.0) AS share_filled
FROM per_task;
COMMENT ON VIEW coverage IS 'How much of each task has been evaluated, counting status ok only.';
COMMENT ON COLUMN coverage.task IS 'The task.';
COMMENT ON COLUMN coverage.task_version IS 'Version of the task.';
COMMENT ON COLUMN coverage.n_queries IS 'Number of questions of the task.';
COMMENT ON COLUMN coverage.n_models IS 'Number of models with a score on any of them.';
COMMENT ON COLUMN coverage.n_models_without IS 'Number of models with no score on any of them.';
COMMENT ON COLUMN coverage.n_scores IS 'Number of model and question pairs with a score.';
COMMENT ON COLUMN coverage.share_filled IS 'n_scores divided by n_queries times n_models, from 0 to 1.';

CREATE VIEW cost_by_model AS
SELECT
    model_id,
    count(*) AS calls,
    count(*) FILTER (WHERE status = 'ok') AS calls_ok,
    CAST(sum(tokens_in) AS BIGINT) AS tokens_in,
    CAST(sum(tokens_out) AS BIGINT) AS tokens_out,
    count(cost_usd) AS calls_with_cost,
    sum(cost_usd) AS cost_usd,
    avg(latency_ms) AS mean_latency_ms
FROM score
WHERE coalesce(latency_ms, tokens_in, tokens_out, cost_usd) IS NOT NULL
GROUP BY model_id;
COMMENT ON VIEW cost_by_model IS 'What asking each model has cost so far, over all rows of score that carry a measurement (imported scores carry none).';
COMMENT ON COLUMN cost_by_model.model_id IS 'The model.';
COMMENT ON COLUMN cost_by_model.calls IS 'Number of measured calls, of any status.';
COMMENT ON COLUMN cost_by_model.calls_ok IS 'Number of those with status ok.';
COMMENT ON COLUMN cost_by_model.tokens_in IS 'Input tokens in total; NULL where none were counted.';
COMMENT ON COLUMN cost_by_model.tokens_out IS 'Output tokens in total; NULL where none were counted.';
COMMENT ON COLUMN cost_by_model.calls_with_cost IS 'Number of calls whose cost is known.';
COMMENT ON COLUMN cost_by_model.cost_usd IS 'Cost of those calls, in US dollars; NULL where none is known.';
COMMENT ON COLUMN cost_by_model.mean_latency_ms IS 'Mean time to answer, in milliseconds.';

CREATE VIEW freshness AS
WITH scored AS (
    SELECT model_id, max(scored_at) AS last_scored_at FROM score GROUP BY model_id
),
embedded AS (
    SELECT model_id, max(embedded_at) AS last_embedded_at FROM model_embedding GROUP BY model_id
),
published AS (
    SELECT e.model_id, max(p.created_at) AS last_published_at
    FROM model_embedding AS e
    JOIN snapshot AS p ON p.checkpoint_id = e.checkpoint_id AND p.created_at >= e.embedded_at
    GROUP BY e.model_id
)
SELECT m.model_id, s.last_scored_at, e.last_embedded_at, p.last_published_at
FROM model AS m
LEFT JOIN scored AS s ON s.model_id = m.model_id
LEFT JOIN embedded AS e ON e.model_id = m.model_id
LEFT JOIN published AS p ON p.model_id = m.model_id;
COMMENT ON VIEW freshness IS 'When each model was last scored, embedded and published; NULL means never.';
COMMENT ON COLUMN freshness.model_id IS 'The model.';
COMMENT ON COLUMN freshness.last_scored_at IS 'Its newest score of any status (UTC).';
COMMENT ON COLUMN freshness.last_embedded_at IS 'Its newest embedding (UTC).';
COMMENT ON COLUMN freshness.last_published_at IS 'The newest snapshot that holds its present embedding (UTC).';
