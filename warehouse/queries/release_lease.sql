-- Give a lease back.
UPDATE run_lease SET released_at = $now
WHERE name = $name AND token = $token AND released_at IS NULL;
