-- Take a lease, if it still is as it was read; the row that results is the proof.
UPDATE run_lease SET
    token = token + 1,
    what = $what,
    flow_run_id = $flow_run_id,
    host = $host,
    machine = $machine,
    pid = $pid,
    process_start = $process_start,
    taken_at = $now,
    heartbeat_at = $now,
    expires_at = $expires_at,
    released_at = NULL
WHERE name = $name AND token = $over;
