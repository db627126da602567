-- Count the rows of a run.
UPDATE evaluation_run SET
    n_ok = (SELECT count(*) FROM score AS s WHERE s.run_id = $run_id AND s.status = 'ok'),
    n_other = (SELECT count(*) FROM score AS s WHERE s.run_id = $run_id AND s.status <> 'ok')
WHERE evaluation_run.run_id = $run_id;
