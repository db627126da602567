-- Rules that hold between rows and tables, and how many rows break each. No row comes back where
-- all is well; rules about single rows are kept by the contracts when rows are written.
WITH merged AS (
    SELECT run_id, sum(n_rows) AS n FROM score_part GROUP BY run_id
),
answer AS (
    SELECT run_id, status, score FROM score
    UNION ALL
    SELECT run_id, status, score FROM canary
),
kept AS (
    SELECT run_id, count(*) AS n, count(*) FILTER (WHERE status = 'ok') AS n_ok
    FROM answer
    GROUP BY run_id
),
found AS (
    SELECT 'runs whose answers are not as many as their parts brought' AS rule, count(*) AS n_rows
    FROM merged AS m
    FULL JOIN kept AS k ON k.run_id = m.run_id
    WHERE m.n IS DISTINCT FROM k.n AND coalesce(m.n, 0) <> coalesce(k.n, 0)
    UNION ALL
    SELECT 'runs that count other answers than they have', count(*)
    FROM evaluation_run AS r
    LEFT JOIN kept AS k ON k.run_id = r.run_id
    WHERE r.n_ok <> coalesce(k.n_ok, 0) OR r.n_ok + r.n_other <> coalesce(k.n, 0)
    UNION ALL
    SELECT 'answers of runs that are not there', count(*)
    FROM kept
    WHERE run_id NOT IN (SELECT run_id FROM evaluation_run)
    UNION ALL
    SELECT 'parts that were merged twice', count(*)
    FROM (SELECT part_sha256 FROM score_part GROUP BY part_sha256 HAVING count(*) > 1)
    UNION ALL
    SELECT 'answers that have a score without status ok, or status ok without a score', count(*)
    FROM answer
    WHERE (status = 'ok') <> (score IS NOT NULL)
    UNION ALL
    SELECT 'scores outside of 0 to 1', count(*) FROM answer WHERE NOT (score BETWEEN 0 AND 1)
    UNION ALL
    SELECT 'scores of models that are not there', count(*)
    FROM score
    WHERE model_id NOT IN (SELECT model_id FROM model)
    UNION ALL
    SELECT 'scores of queries that are not there', count(*)
    FROM score
    WHERE query_id NOT IN (SELECT query_id FROM query)
    UNION ALL
    SELECT 'models that are there twice', count(*)
    FROM (SELECT model_id FROM model GROUP BY model_id HAVING count(*) > 1)
    UNION ALL
    SELECT 'queries that are there twice', count(*)
    FROM (SELECT query_id FROM query GROUP BY query_id HAVING count(*) > 1)
    UNION ALL
    SELECT 'encodings that are there twice', count(*)
    FROM (SELECT query_id FROM query_encoding GROUP BY query_id, encoder HAVING count(*) > 1)
    UNION ALL
    SELECT 'snapshots that are there twice', count(*)
    FROM (SELECT snapshot_id FROM snapshot GROUP BY snapshot_id HAVING count(*) > 1)
    UNION ALL
    SELECT 'places of models by maps that are not there', count(*)
    FROM model_embedding
    WHERE checkpoint_id NOT IN (SELECT checkpoint_id FROM checkpoint)
    UNION ALL
    SELECT 'maps that are active beside another', greatest(count(*) - 1, 0)
    FROM checkpoint
    WHERE state = 'active'
    UNION ALL
    SELECT 'rows of run_lease that are missing or too many', abs(count(*) - 1)
    FROM run_lease
    WHERE name = 'pipeline'
)
SELECT rule, n_rows FROM found WHERE n_rows > 0 ORDER BY rule
