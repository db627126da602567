-- What an answered query takes, on average, by model and task; imports carry no measurement.
SELECT
    s.model_id,
    q.task,
    count(*) AS n,
    avg(s.tokens_in) AS tokens_in,
    avg(s.tokens_out) AS tokens_out,
    avg(s.latency_ms) AS latency_ms
FROM score AS s
JOIN query AS q USING (query_id)
WHERE s.tokens_in IS NOT NULL AND s.tokens_out IS NOT NULL
GROUP BY ALL
ORDER BY ALL
