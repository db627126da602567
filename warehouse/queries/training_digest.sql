-- A digest of all that a map is learned from: current scores of train and val queries, status ok.
-- XOR of one hash per (model, query, score): the order of rows does not matter, any change shows.
SELECT
    printf('%032x', bit_xor(md5_number(
        concat(l.model_id, chr(31), l.query_id, chr(31), l.score)
    ))) AS digest
FROM latest_score AS l
JOIN query AS q ON q.query_id = l.query_id
WHERE l.status = 'ok' AND q.split IN ('train', 'val')
