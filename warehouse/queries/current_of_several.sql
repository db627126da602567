-- current_of_several
-- The current score, by the order of the view latest_score, of the staged pairs `incoming`
-- (model_id, query_id), which have several with status ok.
SELECT s.model_id, s.query_id, s.score
FROM score AS s
SEMI JOIN incoming AS i ON i.model_id = s.model_id AND i.query_id = s.query_id
LEFT JOIN model_revision AS r ON r.model_id = s.model_id AND r.revision = s.revision
WHERE s.status = 'ok'
QUALIFY row_number() OVER (
    PARTITION BY s.model_id, s.query_id
    ORDER BY r.seen_at DESC NULLS LAST, s.scored_at DESC, s.run_id DESC, s.metric, s.filter
) = 1
ORDER BY s.model_id, s.query_id
