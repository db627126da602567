-- Which map is in use, since when, and why.

CREATE TABLE checkpoint_decision (
    decided_at TIMESTAMPTZ NOT NULL,
    kind VARCHAR NOT NULL,
    candidate VARCHAR NOT NULL,
    active VARCHAR,
    promoted BOOLEAN NOT NULL,
    reason VARCHAR NOT NULL,
    metrics JSON,
    git_sha VARCHAR
);
COMMENT ON TABLE checkpoint_decision IS 'One row per decision about which checkpoint is the active one. Rows are only added.';
COMMENT ON COLUMN checkpoint_decision.decided_at IS 'When it was decided (UTC).';
COMMENT ON COLUMN checkpoint_decision.kind IS 'first (there was none for the sentence encoder), retrain (compared in shadow), by hand, or rollback.';
COMMENT ON COLUMN checkpoint_decision.candidate IS 'Checkpoint that was decided about (checkpoint.checkpoint_id).';
COMMENT ON COLUMN checkpoint_decision.active IS 'Checkpoint that was active before; NULL where there was none.';
COMMENT ON COLUMN checkpoint_decision.promoted IS 'Whether the candidate became the active one.';
COMMENT ON COLUMN checkpoint_decision.reason IS 'Why, in words.';
COMMENT ON COLUMN checkpoint_decision.metrics IS 'Both maps on validation answers, with intervals of the differences, as a JSON object; NULL where nothing was compared.';
COMMENT ON COLUMN checkpoint_decision.git_sha IS 'Commit of this project that decided.';
