-- Per model a digest of the scores that its embedding is computed from (train split, status ok).
-- XOR of one hash per (query, score): the order of rows does not matter, any change shows.
SELECT
    l.model_id,
    arg_max(l.revision, (coalesce(r.seen_at, '-infinity'::TIMESTAMPTZ), l.scored_at, l.revision))
        AS revision,
    count(*) AS n_scores,
    printf('%032x', bit_xor(md5_number(concat(l.query_id, chr(31), l.score)))) AS digest
FROM latest_score AS l
JOIN query AS q ON q.query_id = l.query_id
LEFT JOIN model_revision AS r ON r.model_id = l.model_id AND r.revision = l.revision
WHERE l.status = 'ok' AND q.split = 'train'
GROUP BY l.model_id
ORDER BY l.model_id
