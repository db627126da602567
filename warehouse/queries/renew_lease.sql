-- A sign of life of the run that holds a lease.
UPDATE run_lease SET heartbeat_at = $now, expires_at = $expires_at
WHERE name = $name AND token = $token AND released_at IS NULL;
