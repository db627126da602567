-- Who may write: one pipeline run at a time, on whatever machine.

CREATE TABLE run_lease (
    name VARCHAR NOT NULL,
    token BIGINT NOT NULL,
    what VARCHAR,
    flow_run_id VARCHAR,
    host VARCHAR,
    machine VARCHAR,
    pid BIGINT,
    process_start VARCHAR,
    taken_at TIMESTAMPTZ,
    heartbeat_at TIMESTAMPTZ,
    expires_at TIMESTAMPTZ,
    released_at TIMESTAMPTZ
);
COMMENT ON TABLE run_lease IS 'One row: the run that holds the pipeline, or held it last. A run whose token is no longer the one written here lost the lease, and nothing that it writes is taken.';
COMMENT ON COLUMN run_lease.name IS 'What the lease is on: pipeline. Unique.';
COMMENT ON COLUMN run_lease.token IS 'Number of the run that holds it; each that takes it is given the next one. 0 before the first.';
COMMENT ON COLUMN run_lease.what IS 'What the run does: its flow and the name of the flow run, or the command.';
COMMENT ON COLUMN run_lease.flow_run_id IS 'Its flow run in Prefect; NULL where it is none.';
COMMENT ON COLUMN run_lease.host IS 'Name of the machine it runs on.';
COMMENT ON COLUMN run_lease.machine IS 'That machine since it was last started, and its numbering of processes; empty where unknown.';
COMMENT ON COLUMN run_lease.pid IS 'Number of its process there.';
COMMENT ON COLUMN run_lease.process_start IS 'When that process was started, as that machine counts: a number that was given away again has another one.';
COMMENT ON COLUMN run_lease.taken_at IS 'When it took the lease (UTC, its own clock).';
COMMENT ON COLUMN run_lease.heartbeat_at IS 'When it last gave a sign of life (UTC, its own clock).';
COMMENT ON COLUMN run_lease.expires_at IS 'When it counts as dead without a further one (UTC, its own clock).';
COMMENT ON COLUMN run_lease.released_at IS 'When it gave the lease back (UTC); NULL while it holds it.';

INSERT INTO run_lease (name, token, released_at) VALUES ('pipeline', 0, '1970-01-01 00:00:00+00');
