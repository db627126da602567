-- Canaries: the same few questions every night, so that a change of the model behind an address is
-- seen. Their answers are kept apart from score: they place no model and are nobody's latest answer.

CREATE TABLE canary (
    run_id VARCHAR NOT NULL,
    model_id VARCHAR NOT NULL,
    revision VARCHAR NOT NULL,
    query_id VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    score DOUBLE,
    response_sha256 VARCHAR,
    response VARCHAR,
    asked_at TIMESTAMPTZ NOT NULL,
    tokens_in BIGINT,
    tokens_out BIGINT,
    latency_ms DOUBLE,
    cost_usd DOUBLE
);
COMMENT ON TABLE canary IS 'One row per canary question and run: what a model answered that night. Rows are only added.';
COMMENT ON COLUMN canary.run_id IS 'Run that asked it (evaluation_run.run_id, of kind canary).';
COMMENT ON COLUMN canary.model_id IS 'The model that answered (model.model_id).';
COMMENT ON COLUMN canary.revision IS 'Version of that model (model_revision.revision).';
COMMENT ON COLUMN canary.query_id IS 'The question (query.query_id). Unique per run.';
COMMENT ON COLUMN canary.status IS 'ok, error, refused, empty or truncated. Only ok has a score: a failure is never a wrong answer.';
COMMENT ON COLUMN canary.score IS 'How right the answer is, from 0 (wrong) to 1 (right); NULL unless status is ok.';
COMMENT ON COLUMN canary.response_sha256 IS 'SHA-256 of the response (UTF-8, hexadecimal); NULL where there is none.';
COMMENT ON COLUMN canary.response IS 'What the model answered. Written by a model: treat it as hostile text.';
COMMENT ON COLUMN canary.asked_at IS 'When the answer was scored (UTC).';
COMMENT ON COLUMN canary.tokens_in IS 'Number of input tokens.';
COMMENT ON COLUMN canary.tokens_out IS 'Number of output tokens.';
COMMENT ON COLUMN canary.latency_ms IS 'Time to answer, in milliseconds.';
COMMENT ON COLUMN canary.cost_usd IS 'Cost of the call, in US dollars.';

CREATE VIEW canary_night AS
WITH night AS (
    SELECT
        c.model_id, c.revision, c.run_id,
        -- Nights compare only if they were asked in the same way. Who chose the questions, and how
        -- many, is no part of that; nor is the address, where another one may answer.
        concat(
            CAST(json_merge_patch(
                r.settings, '{"args": null, "chosen_by": null, "chosen_by_checkpoint": null}'
            ) AS VARCHAR),
            chr(31), r.versions ->> '$.lm_eval'
        ) AS way,
        min(c.asked_at) AS asked_at,
        count(*) AS n_asked,
        count(*) FILTER (WHERE c.status = 'ok') AS n_ok,
        avg(c.score) AS mean_score,
        -- Three quarters: a night on which the service was half down is no measure for others.
        4 * count(*) FILTER (WHERE c.status = 'ok')
            >= 3 * greatest(coalesce(r.n_planned, 0), count(*)) AS is_enough
    FROM canary AS c
    LEFT JOIN evaluation_run AS r ON r.run_id = c.run_id
    GROUP BY c.model_id, c.revision, c.run_id, way, r.n_planned
),
baseline AS (
    SELECT model_id, revision, way, run_id, asked_at
    FROM night
    WHERE is_enough
    QUALIFY row_number() OVER (PARTITION BY model_id, revision, way ORDER BY asked_at, run_id) = 1
)
SELECT
    n.model_id, n.revision, n.run_id, n.asked_at,
    any_value(b.run_id) AS baseline_run_id,
    any_value(n.n_asked) AS n_asked,
    any_value(n.n_ok) AS n_ok,
    any_value(n.mean_score) AS mean_score,
    -- A call that failed says nothing of the answer.
    count(*) FILTER (WHERE mine.status <> 'error' AND base.status <> 'error') AS n_common,
    count(*) FILTER (
        WHERE mine.status <> 'error' AND mine.status = base.status
            AND mine.response_sha256 IS NOT DISTINCT FROM base.response_sha256
    ) AS n_same_text,
    count(*) FILTER (WHERE (mine.score >= 0.5) <> (base.score >= 0.5)) AS n_crossed,
    count(*) FILTER (WHERE mine.score >= 0.5 AND base.score < 0.5) AS gained,
    count(*) FILTER (WHERE mine.score < 0.5 AND base.score >= 0.5) AS lost
FROM night AS n
JOIN canary AS mine
    ON mine.run_id = n.run_id AND mine.model_id = n.model_id AND mine.revision = n.revision
LEFT JOIN baseline AS b
    ON b.model_id = n.model_id AND b.revision = n.revision AND b.way = n.way
    AND b.asked_at <= n.asked_at
LEFT JOIN canary AS base
    ON base.run_id = b.run_id AND base.model_id = b.model_id AND base.revision = b.revision
    AND base.query_id = mine.query_id
GROUP BY n.model_id, n.revision, n.run_id, n.asked_at;
COMMENT ON VIEW canary_night IS 'One row per model, version and canary run: what came back, beside the baseline, which is the first run of that version, asked in the same way (evaluation_run.settings without args, version of lm-eval), in which at least three quarters of the questions got status ok.';
COMMENT ON COLUMN canary_night.model_id IS 'The model.';
COMMENT ON COLUMN canary_night.revision IS 'Version of the model.';
COMMENT ON COLUMN canary_night.run_id IS 'The run.';
COMMENT ON COLUMN canary_night.asked_at IS 'When its first answer was scored (UTC).';
COMMENT ON COLUMN canary_night.baseline_run_id IS 'Run that it is held against, itself where it is the baseline; NULL before there is one.';
COMMENT ON COLUMN canary_night.n_asked IS 'Number of questions asked.';
COMMENT ON COLUMN canary_night.n_ok IS 'Number of those with status ok.';
COMMENT ON COLUMN canary_night.mean_score IS 'Mean score of those, from 0 to 1; NULL where there are none.';
COMMENT ON COLUMN canary_night.n_common IS 'Number of questions for which neither this run nor the baseline has status error.';
COMMENT ON COLUMN canary_night.n_same_text IS 'Number of those whose status and response are the baseline''s.';
COMMENT ON COLUMN canary_night.n_crossed IS 'Number of questions whose score is on the other side of 0.5 (0.5 counts as right).';
COMMENT ON COLUMN canary_night.gained IS 'Number of those that were wrong in the baseline and are right here.';
COMMENT ON COLUMN canary_night.lost IS 'Number of those that were right in the baseline and are wrong here.';

-- What canaries cost is cost. Replacing a view drops its comments.
CREATE OR REPLACE VIEW cost_by_model AS
WITH call AS (
    SELECT model_id, status, tokens_in, tokens_out, cost_usd, latency_ms FROM score
    UNION ALL
    SELECT model_id, status, tokens_in, tokens_out, cost_usd, latency_ms FROM canary
)
SELECT
    model_id,
    count(*) AS calls,
    count(*) FILTER (WHERE status = 'ok') AS calls_ok,
    CAST(sum(tokens_in) AS BIGINT) AS tokens_in,
    CAST(sum(tokens_out) AS BIGINT) AS tokens_out,
    count(cost_usd) AS calls_with_cost,
    sum(cost_usd) AS cost_usd,
    avg(latency_ms) AS mean_latency_ms
FROM call
WHERE coalesce(latency_ms, tokens_in, tokens_out, cost_usd) IS NOT NULL
GROUP BY model_id;
COMMENT ON VIEW cost_by_model IS 'What asking each model has cost so far, over all rows of score and canary that carry a measurement (imported scores carry none).';
COMMENT ON COLUMN cost_by_model.model_id IS 'The model.';
COMMENT ON COLUMN cost_by_model.calls IS 'Number of measured calls, of any status.';
COMMENT ON COLUMN cost_by_model.calls_ok IS 'Number of those with status ok.';
COMMENT ON COLUMN cost_by_model.tokens_in IS 'Input tokens in total; NULL where none were counted.';
COMMENT ON COLUMN cost_by_model.tokens_out IS 'Output tokens in total; NULL where none were counted.';
COMMENT ON COLUMN cost_by_model.calls_with_cost IS 'Number of calls whose cost is known.';
COMMENT ON COLUMN cost_by_model.cost_usd IS 'Cost of those calls, in US dollars; NULL where none is known.';
COMMENT ON COLUMN cost_by_model.mean_latency_ms IS 'Mean time to answer, in milliseconds.';

COMMENT ON TABLE evaluation_run IS 'One row per act of asking a model or importing scores; every score and every canary names its run.';
COMMENT ON COLUMN evaluation_run.kind IS 'What it was: a kind of evaluation or of import, or canary.';
COMMENT ON COLUMN evaluation_run.n_ok IS 'Number of its rows of score or canary with status ok.';
COMMENT ON COLUMN evaluation_run.n_other IS 'Number of its rows of score or canary with any other status.';
COMMENT ON TABLE score_part IS 'One row per batch of answers (scores, or canaries) that was merged; a batch is merged once and never again.';
COMMENT ON COLUMN score_part.n_rows IS 'Number of rows in it.';
