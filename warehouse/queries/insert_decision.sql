-- A decision about a checkpoint.
INSERT INTO checkpoint_decision (
    decided_at, kind, candidate, active, promoted, reason, metrics, git_sha
) VALUES ($decided_at, $kind, $candidate, $active, $promoted, $reason, $metrics, $git_sha);
