-- Count the rows of a run: of an evaluation or import in score, of a canary run in canary.
UPDATE evaluation_run SET
    n_ok = (SELECT count(*) FROM score AS s WHERE s.run_id = $run_id AND s.status = 'ok')
        + (SELECT count(*) FROM canary AS c WHERE c.run_id = $run_id AND c.status = 'ok'),
    n_other = (SELECT count(*) FROM score AS s WHERE s.run_id = $run_id AND s.status <> 'ok')
        + (SELECT count(*) FROM canary AS c WHERE c.run_id = $run_id AND c.status <> 'ok')
WHERE evaluation_run.run_id = $run_id;
