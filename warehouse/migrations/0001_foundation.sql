-- Tables of the warehouse. Times are UTC. Units are in the names of columns (_ms, _usd, _per_mtok).
-- NOT NULL is the only constraint: no keys, sequences or triggers, so that the same SQL runs where
-- tables are Parquet files (DuckLake). Uniqueness is kept by the one writer and its contracts.

CREATE TABLE schema_version (
    version INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE schema_version IS 'One row per migration applied to this database, in order.';
COMMENT ON COLUMN schema_version.version IS 'Number of the migration: 1, 2, 3, ...';
COMMENT ON COLUMN schema_version.name IS 'File name of the migration.';
COMMENT ON COLUMN schema_version.sha256 IS 'SHA-256 of the migration file as it was applied (hexadecimal).';
COMMENT ON COLUMN schema_version.applied_at IS 'When it was applied (UTC).';

CREATE TABLE model (
    model_id VARCHAR NOT NULL,
    org VARCHAR,
    family VARCHAR,
    params_b DOUBLE,
    released VARCHAR,
    license VARCHAR,
    price_in_usd_per_mtok DOUBLE,
    price_out_usd_per_mtok DOUBLE,
    source VARCHAR NOT NULL,
    metadata JSON,
    added_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE model IS 'One row per language model on the map. NULL means unknown, never zero.';
COMMENT ON COLUMN model.model_id IS 'Identity of the model, for example org/name. Unique.';
COMMENT ON COLUMN model.org IS 'Organisation that released it.';
COMMENT ON COLUMN model.family IS 'Family it belongs to, for example the base model it was tuned from.';
COMMENT ON COLUMN model.params_b IS 'Number of parameters, in billions (1e9).';
COMMENT ON COLUMN model.released IS 'Day, month or year of release, ISO 8601: 2026-01-31, 2026-01 or 2026.';
COMMENT ON COLUMN model.license IS 'Licence of the weights or terms of the service, as stated by its owner.';
COMMENT ON COLUMN model.price_in_usd_per_mtok IS 'Price of one million input tokens, in US dollars.';
COMMENT ON COLUMN model.price_out_usd_per_mtok IS 'Price of one million output tokens, in US dollars.';
COMMENT ON COLUMN model.source IS 'How it came here: registry (watched and evaluated) or import (scores from elsewhere).';
COMMENT ON COLUMN model.metadata IS 'Anything else known about the model, as a JSON object.';
COMMENT ON COLUMN model.added_at IS 'When the row was added (UTC).';

CREATE TABLE model_revision (
    model_id VARCHAR NOT NULL,
    revision VARCHAR NOT NULL,
    backend VARCHAR,
    backend_args JSON,
    seen_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE model_revision IS 'One row per version of a model that was seen; scores belong to a version.';
COMMENT ON COLUMN model_revision.model_id IS 'The model (model.model_id).';
COMMENT ON COLUMN model_revision.revision IS 'Commit of the weights, or a stand-in where there is none. Unique per model.';
COMMENT ON COLUMN model_revision.backend IS 'What runs it, for example hf, vllm or local-chat-completions.';
COMMENT ON COLUMN model_revision.backend_args IS 'Arguments of the backend as a JSON object; never a key or a token.';
COMMENT ON COLUMN model_revision.seen_at IS 'When this version was first seen (UTC); the newest is the current one.';

CREATE TABLE task (
    task VARCHAR NOT NULL,
    task_version VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    output_type VARCHAR,
    primary_metric VARCHAR,
    added_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE task IS 'One row per version of a task (benchmark).';
COMMENT ON COLUMN task.task IS 'Name of the task, for example arc_challenge.';
COMMENT ON COLUMN task.task_version IS 'Version of its definition; results of two versions do not compare. Unique per task.';
COMMENT ON COLUMN task.source IS 'Where it comes from: lm-eval, matrix, lm-eval-log or embedllm.';
COMMENT ON COLUMN task.output_type IS 'How models answer: multiple_choice, generate_until, loglikelihood, ...';
COMMENT ON COLUMN task.primary_metric IS 'Metric that becomes the score.';
COMMENT ON COLUMN task.added_at IS 'When the row was added (UTC).';

CREATE TABLE query (
    query_id VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    task_version VARCHAR NOT NULL,
    category VARCHAR,
    split VARCHAR NOT NULL,
    text VARCHAR NOT NULL,
    choices VARCHAR[],
    target VARCHAR,
    doc JSON,
    source_id VARCHAR,
    added_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE query IS 'One row per question that models are asked. Rows never change.';
COMMENT ON COLUMN query.query_id IS 'Identity of the question: hash of task, version, document and prompt. Unique.';
COMMENT ON COLUMN query.task IS 'Task it belongs to (task.task).';
COMMENT ON COLUMN query.task_version IS 'Version of that task (task.task_version).';
COMMENT ON COLUMN query.category IS 'Subject inside the task, where the task has subjects.';
COMMENT ON COLUMN query.split IS 'train (given to the encoder), val (steers training) or test (measures what is published).';
COMMENT ON COLUMN query.text IS 'The question as text; this is what is encoded.';
COMMENT ON COLUMN query.choices IS 'Possible answers, in order, where the task has them.';
COMMENT ON COLUMN query.target IS 'The right answer as text.';
COMMENT ON COLUMN query.doc IS 'The document behind the question, as the task delivers it (JSON).';
COMMENT ON COLUMN query.source_id IS 'Identity of the question where it came from.';
COMMENT ON COLUMN query.added_at IS 'When the row was added (UTC).';

CREATE TABLE query_encoding (
    query_id VARCHAR NOT NULL,
    encoder VARCHAR NOT NULL,
    dim INTEGER NOT NULL,
    vector FLOAT[] NOT NULL,
    encoded_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE query_encoding IS 'One row per question and sentence encoder: the text as a vector.';
COMMENT ON COLUMN query_encoding.query_id IS 'The question (query.query_id).';
COMMENT ON COLUMN query_encoding.encoder IS 'Name of the sentence encoder. Unique per question.';
COMMENT ON COLUMN query_encoding.dim IS 'Length of the vector; equal for all rows of one encoder.';
COMMENT ON COLUMN query_encoding.vector IS 'The encoding: dim finite numbers.';
COMMENT ON COLUMN query_encoding.encoded_at IS 'When it was computed (UTC).';

CREATE TABLE evaluation_run (
    run_id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    model_id VARCHAR,
    revision VARCHAR,
    started_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ,
    status VARCHAR NOT NULL,
    n_planned BIGINT,
    n_ok BIGINT NOT NULL,
    n_other BIGINT NOT NULL,
    settings JSON,
    versions JSON,
    git_sha VARCHAR,
    error VARCHAR
);
COMMENT ON TABLE evaluation_run IS 'One row per act of evaluating a model or importing scores; every score names its run.';
COMMENT ON COLUMN evaluation_run.run_id IS 'Identity of the run. Unique.';
COMMENT ON COLUMN evaluation_run.kind IS 'What it was: a kind of evaluation or of import.';
COMMENT ON COLUMN evaluation_run.model_id IS 'The model evaluated; NULL for an import of many models.';
COMMENT ON COLUMN evaluation_run.revision IS 'Version of that model; NULL for an import of many models.';
COMMENT ON COLUMN evaluation_run.started_at IS 'When it began (UTC).';
COMMENT ON COLUMN evaluation_run.finished_at IS 'When it ended (UTC); NULL while it runs.';
COMMENT ON COLUMN evaluation_run.status IS 'running, finished or failed.';
COMMENT ON COLUMN evaluation_run.n_planned IS 'Number of queries it set out to ask.';
COMMENT ON COLUMN evaluation_run.n_ok IS 'Number of its score rows with status ok.';
COMMENT ON COLUMN evaluation_run.n_other IS 'Number of its score rows with any other status.';
COMMENT ON COLUMN evaluation_run.settings IS 'Settings of the run as a JSON object.';
COMMENT ON COLUMN evaluation_run.versions IS 'Versions of the software that ran it as a JSON object.';
COMMENT ON COLUMN evaluation_run.git_sha IS 'Commit of this project that ran it.';
COMMENT ON COLUMN evaluation_run.error IS 'Why it failed, in one line; NULL otherwise.';

CREATE TABLE score_part (
    part_sha256 VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,
    n_rows BIGINT NOT NULL,
    merged_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE score_part IS 'One row per batch of scores that was merged; a batch is merged once and never again.';
COMMENT ON COLUMN score_part.part_sha256 IS 'SHA-256 of the batch: of the file, or of the content of an import. Unique.';
COMMENT ON COLUMN score_part.run_id IS 'Run that produced it (evaluation_run.run_id).';
COMMENT ON COLUMN score_part.n_rows IS 'Number of score rows in it.';
COMMENT ON COLUMN score_part.merged_at IS 'When it was merged (UTC).';

CREATE TABLE score (
    run_id VARCHAR NOT NULL,
    model_id VARCHAR NOT NULL,
    revision VARCHAR NOT NULL,
    query_id VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    score DOUBLE,
    metric VARCHAR,
    filter VARCHAR,
    metrics JSON,
    response VARCHAR,
    latency_ms DOUBLE,
    tokens_in BIGINT,
    tokens_out BIGINT,
    cost_usd DOUBLE,
    doc_hash VARCHAR,
    prompt_hash VARCHAR,
    target_hash VARCHAR,
    scored_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE score IS 'One row per answer of a model to a question. Rows are only added; read latest_score for the current one.';
COMMENT ON COLUMN score.run_id IS 'Run that produced it (evaluation_run.run_id).';
COMMENT ON COLUMN score.model_id IS 'The model that answered (model.model_id).';
COMMENT ON COLUMN score.revision IS 'Version of that model (model_revision.revision).';
COMMENT ON COLUMN score.query_id IS 'The question (query.query_id).';
COMMENT ON COLUMN score.status IS 'ok, error, refused, empty or truncated. Only ok has a score: a failure is never a wrong answer.';
COMMENT ON COLUMN score.score IS 'How right the answer is, from 0 (wrong) to 1 (right); NULL unless status is ok.';
COMMENT ON COLUMN score.metric IS 'Metric behind the score, for example acc or exact_match.';
COMMENT ON COLUMN score.filter IS 'Filter of the answer behind the score, as the harness names it.';
COMMENT ON COLUMN score.metrics IS 'All metrics of the answer as a JSON object.';
COMMENT ON COLUMN score.response IS 'What the model answered. Written by a model: treat it as hostile text.';
COMMENT ON COLUMN score.latency_ms IS 'Time to answer, in milliseconds.';
COMMENT ON COLUMN score.tokens_in IS 'Number of input tokens.';
COMMENT ON COLUMN score.tokens_out IS 'Number of output tokens.';
COMMENT ON COLUMN score.cost_usd IS 'Cost of the call, in US dollars.';
COMMENT ON COLUMN score.doc_hash IS 'Hash of the document, as the harness reports it.';
COMMENT ON COLUMN score.prompt_hash IS 'Hash of the prompt, as the harness reports it.';
COMMENT ON COLUMN score.target_hash IS 'Hash of the target, as the harness reports it.';
COMMENT ON COLUMN score.scored_at IS 'When the answer was scored (UTC).';

CREATE TABLE checkpoint (
    checkpoint_id VARCHAR NOT NULL,
    parent VARCHAR,
    created_at TIMESTAMPTZ NOT NULL,
    state VARCHAR NOT NULL,
    encoder VARCHAR NOT NULL,
    config JSON,
    metrics JSON,
    n_models BIGINT,
    n_queries BIGINT,
    n_scores BIGINT,
    git_sha VARCHAR
);
COMMENT ON TABLE checkpoint IS 'One row per trained encoder and predictor. At most one is active.';
COMMENT ON COLUMN checkpoint.checkpoint_id IS 'Hash of its files. Unique.';
COMMENT ON COLUMN checkpoint.parent IS 'Checkpoint that was active when it was trained.';
COMMENT ON COLUMN checkpoint.created_at IS 'When it was trained (UTC).';
COMMENT ON COLUMN checkpoint.state IS 'active or retired.';
COMMENT ON COLUMN checkpoint.encoder IS 'Sentence encoder whose vectors it reads (query_encoding.encoder).';
COMMENT ON COLUMN checkpoint.config IS 'Its configuration as a JSON object.';
COMMENT ON COLUMN checkpoint.metrics IS 'What it reached in validation, as a JSON object.';
COMMENT ON COLUMN checkpoint.n_models IS 'Number of models it was trained on.';
COMMENT ON COLUMN checkpoint.n_queries IS 'Number of queries it was trained on.';
COMMENT ON COLUMN checkpoint.n_scores IS 'Number of scores it was trained on.';
COMMENT ON COLUMN checkpoint.git_sha IS 'Commit of this project that trained it.';

CREATE TABLE model_embedding (
    model_id VARCHAR NOT NULL,
    revision VARCHAR NOT NULL,
    checkpoint_id VARCHAR NOT NULL,
    dim INTEGER NOT NULL,
    vector FLOAT[] NOT NULL,
    n_scores BIGINT NOT NULL,
    scores_digest VARCHAR NOT NULL,
    embedded_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE model_embedding IS 'One row per model and checkpoint: the place of the model on the map.';
COMMENT ON COLUMN model_embedding.model_id IS 'The model (model.model_id). Unique per checkpoint.';
COMMENT ON COLUMN model_embedding.revision IS 'Version of the model behind its newest score.';
COMMENT ON COLUMN model_embedding.checkpoint_id IS 'Checkpoint that placed it (checkpoint.checkpoint_id).';
COMMENT ON COLUMN model_embedding.dim IS 'Length of the vector; equal for all models of one checkpoint.';
COMMENT ON COLUMN model_embedding.vector IS 'The embedding: dim finite numbers. Vectors of two checkpoints do not compare.';
COMMENT ON COLUMN model_embedding.n_scores IS 'Number of scores it was computed from.';
COMMENT ON COLUMN model_embedding.scores_digest IS 'Digest of those scores; another digest means that the embedding is out of date.';
COMMENT ON COLUMN model_embedding.embedded_at IS 'When it was computed (UTC).';

CREATE TABLE prediction (
    model_id VARCHAR NOT NULL,
    query_id VARCHAR NOT NULL,
    checkpoint_id VARCHAR NOT NULL,
    p_correct DOUBLE NOT NULL,
    predicted_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE prediction IS 'One row per model, question and checkpoint: what the predictor expects.';
COMMENT ON COLUMN prediction.model_id IS 'The model (model.model_id).';
COMMENT ON COLUMN prediction.query_id IS 'The question (query.query_id).';
COMMENT ON COLUMN prediction.checkpoint_id IS 'Checkpoint that predicts (checkpoint.checkpoint_id).';
COMMENT ON COLUMN prediction.p_correct IS 'Probability that the model answers the question correctly, from 0 to 1.';
COMMENT ON COLUMN prediction.predicted_at IS 'When it was computed (UTC).';

CREATE TABLE snapshot (
    snapshot_id VARCHAR NOT NULL,
    parent VARCHAR,
    created_at TIMESTAMPTZ NOT NULL,
    manifest_sha256 VARCHAR,
    checkpoint_id VARCHAR,
    n_models BIGINT NOT NULL,
    n_queries BIGINT NOT NULL,
    n_scores BIGINT NOT NULL
);
COMMENT ON TABLE snapshot IS 'One row per published snapshot.';
COMMENT ON COLUMN snapshot.snapshot_id IS 'Identity of the snapshot and name of its folder. Unique.';
COMMENT ON COLUMN snapshot.parent IS 'Snapshot that was current before it.';
COMMENT ON COLUMN snapshot.created_at IS 'When it was published (UTC).';
COMMENT ON COLUMN snapshot.manifest_sha256 IS 'SHA-256 of its manifest (hexadecimal).';
COMMENT ON COLUMN snapshot.checkpoint_id IS 'Checkpoint behind its numbers; NULL before the first training.';
COMMENT ON COLUMN snapshot.n_models IS 'Number of models in it.';
COMMENT ON COLUMN snapshot.n_queries IS 'Number of queries in it.';
COMMENT ON COLUMN snapshot.n_scores IS 'Number of scores in it.';

CREATE TABLE audit_log (
    logged_at TIMESTAMPTZ NOT NULL,
    action VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,
    detail JSON
);
COMMENT ON TABLE audit_log IS 'One row per act worth remembering: published, rolled back, activated, imported, ...';
COMMENT ON COLUMN audit_log.logged_at IS 'When it happened (UTC).';
COMMENT ON COLUMN audit_log.action IS 'What was done.';
COMMENT ON COLUMN audit_log.subject IS 'What it was done to: the id of a model, a snapshot, a checkpoint, ...';
COMMENT ON COLUMN audit_log.detail IS 'Anything else, as a JSON object.';
