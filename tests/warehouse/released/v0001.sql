-- Rows of a warehouse at schema version 1; see tests/warehouse/released.py.
INSERT INTO audit_log (logged_at, action, subject, detail) VALUES
    ('2026-11-28 15:17:37.39569+00', 'publish', 's1', '{"by": "test"}');
INSERT INTO checkpoint (checkpoint_id, parent, created_at, state, encoder, config, metrics, n_models, n_queries, n_scores, git_sha) VALUES
    ('new', 'old', '2026-01-03 12:00:00+00', 'active', 'mini', '{"width": 2}', '{"auc": 0.7}', '3', NULL, NULL, NULL),
    ('old', NULL, '2026-01-03 02:00:00+00', 'retired', 'mini', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO evaluation_run (run_id, kind, model_id, revision, started_at, finished_at, status, n_planned, n_ok, n_other, settings, versions, git_sha, error) VALUES
    ('run-a1', 'evaluation', 'a/alpha', 'a1', '2026-11-28 15:17:35.103202+00', '2026-11-28 15:17:36.893432+00', 'finished', '6', '5', '1', '{"seed": 1}', '{"x": "1"}', 'abc', NULL),
    ('run-a2', 'evaluation', 'a/alpha', 'a2', '2026-11-28 15:17:36.910951+00', '2026-11-28 15:17:36.959671+00', 'finished', '2', '1', '1', '{"seed": 1}', '{"x": "1"}', 'abc', NULL),
    ('run-b', 'evaluation', 'b/beta', 'b1', '2026-11-28 15:17:36.985275+00', '2026-11-28 15:17:37.055602+00', 'finished', '5', '5', '0', '{"seed": 1}', '{"x": "1"}', 'abc', NULL),
    ('run-c', 'evaluation', 'c/gamma', 'import', '2026-11-28 15:17:37.076845+00', '2026-11-28 15:17:37.14767+00', 'finished', '3', '3', '0', '{"seed": 1}', '{"x": "1"}', 'abc', NULL),
    ('run-z', 'evaluation', 'b/beta', 'b1', '2026-11-28 15:17:37.169978+00', '2026-11-28 15:17:37.200686+00', 'failed', '6', '0', '0', '{}', '{}', NULL, 'no answer from the server');
INSERT INTO model (model_id, org, family, params_b, released, license, price_in_usd_per_mtok, price_out_usd_per_mtok, source, metadata, added_at) VALUES
    ('a/alpha', 'a', NULL, NULL, NULL, NULL, NULL, NULL, 'registry', NULL, '2026-11-28 15:17:34.813579+00'),
    ('b/beta', 'b', NULL, NULL, NULL, NULL, NULL, NULL, 'registry', NULL, '2026-11-28 15:17:34.813579+00'),
    ('c/gamma', 'c', NULL, NULL, NULL, NULL, NULL, NULL, 'import', NULL, '2026-11-28 15:17:34.935873+00'),
    ('d/delta', 'd', NULL, NULL, NULL, NULL, NULL, NULL, 'registry', NULL, '2026-11-28 15:17:34.813579+00');
INSERT INTO model_embedding (model_id, revision, checkpoint_id, dim, vector, n_scores, scores_digest, embedded_at) VALUES
    ('a/alpha', 'r', 'new', '2', '[1.0, 0.0]', '3', 'd', '2026-11-28 15:17:37.334944+00'),
    ('a/alpha', 'r', 'old', '1', '[1.0]', '3', 'd', '2026-11-28 15:17:37.26639+00'),
    ('b/beta', 'r', 'new', '2', '[0.0, 2.0]', '3', 'd', '2026-11-28 15:17:37.334944+00'),
    ('b/beta', 'r', 'old', '1', '[1.0]', '3', 'd', '2026-11-28 15:17:37.26639+00'),
    ('c/gamma', 'r', 'new', '2', '[1.0, 1.0]', '3', 'd', '2026-11-28 15:17:37.334944+00');
INSERT INTO model_revision (model_id, revision, backend, backend_args, seen_at) VALUES
    ('a/alpha', 'a1', 'hf', NULL, '2026-01-01 00:00:00+00'),
    ('a/alpha', 'a2', 'hf', NULL, '2026-01-02 00:00:00+00'),
    ('b/beta', 'b1', 'hf', NULL, '2026-01-01 00:00:00+00'),
    ('c/gamma', 'import', 'hf', NULL, '2026-01-01 00:00:00+00');
INSERT INTO prediction (model_id, query_id, checkpoint_id, p_correct, predicted_at) VALUES
    ('a/alpha', 'q1', 'new', '0.2', '2026-11-28 15:17:37.374057+00'),
    ('a/alpha', 'q4', 'new', '0.9', '2026-11-28 15:17:37.374057+00'),
    ('a/alpha', 'q6', 'new', '0.2', '2026-11-28 15:17:37.374057+00'),
    ('b/beta', 'q4', 'new', '0.91', '2026-11-28 15:17:37.374057+00');
INSERT INTO query (query_id, task, task_version, category, split, text, choices, target, doc, source_id, added_at) VALUES
    ('q1', 'arith', '1', NULL, 'train', 'text of q1', '[yes, no]', 'yes', '{"id": "q1"}', NULL, '2026-11-28 15:17:35.067527+00'),
    ('q2', 'arith', '1', NULL, 'train', 'text of q2', '[yes, no]', 'yes', '{"id": "q2"}', NULL, '2026-11-28 15:17:35.067527+00'),
    ('q3', 'arith', '1', NULL, 'val', 'text of q3', '[yes, no]', 'yes', '{"id": "q3"}', NULL, '2026-11-28 15:17:35.067527+00'),
    ('q4', 'arith', '1', NULL, 'test', 'text of q4', '[yes, no]', 'yes', '{"id": "q4"}', NULL, '2026-11-28 15:17:35.067527+00'),
    ('q5', 'geo', '1', NULL, 'train', 'text of q5', '[yes, no]', 'yes', '{"id": "q5"}', NULL, '2026-11-28 15:17:35.067527+00'),
    ('q6', 'geo', '1', NULL, 'test', 'text of q6', '[yes, no]', 'yes', '{"id": "q6"}', NULL, '2026-11-28 15:17:35.067527+00');
INSERT INTO schema_version (version, name, sha256, applied_at) VALUES
    ('1', '0001_foundation.sql', 'cf2676e322b1b6f72e7ff574a590cca21f42674442d4564cafbae9bc1064bb0a', '2026-11-28 15:17:34.307188+00');
INSERT INTO score (run_id, model_id, revision, query_id, status, score, metric, filter, metrics, response, latency_ms, tokens_in, tokens_out, cost_usd, doc_hash, prompt_hash, target_hash, scored_at) VALUES
    ('run-a1', 'a/alpha', 'a1', 'q1', 'ok', '1.0', 'acc', NULL, NULL, NULL, '100.0', '10', '2', '0.001', NULL, NULL, NULL, '2026-01-03 00:00:00+00'),
    ('run-a1', 'a/alpha', 'a1', 'q2', 'ok', '0.0', 'acc', NULL, NULL, NULL, '100.0', '10', '2', '0.001', NULL, NULL, NULL, '2026-01-03 00:00:00+00'),
    ('run-a1', 'a/alpha', 'a1', 'q3', 'ok', '1.0', 'acc', NULL, NULL, NULL, '100.0', '10', '2', '0.001', NULL, NULL, NULL, '2026-01-03 00:00:00+00'),
    ('run-a1', 'a/alpha', 'a1', 'q4', 'ok', '1.0', 'acc', NULL, NULL, NULL, '100.0', '10', '2', '0.001', NULL, NULL, NULL, '2026-01-03 00:00:00+00'),
    ('run-a1', 'a/alpha', 'a1', 'q5', 'error', NULL, 'acc', NULL, NULL, NULL, '500.0', NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-03 00:00:00+00'),
    ('run-a1', 'a/alpha', 'a1', 'q6', 'ok', '0.0', 'acc', NULL, NULL, NULL, '100.0', '10', '2', '0.001', NULL, NULL, NULL, '2026-01-03 00:00:00+00'),
    ('run-a2', 'a/alpha', 'a2', 'q1', 'ok', '0.0', 'acc', NULL, NULL, NULL, '200.0', '10', '2', NULL, NULL, NULL, NULL, '2026-01-02 06:00:00+00'),
    ('run-a2', 'a/alpha', 'a2', 'q2', 'error', NULL, 'acc', NULL, NULL, NULL, '200.0', NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-02 06:00:00+00'),
    ('run-b', 'b/beta', 'b1', 'q1', 'ok', '1.0', 'acc', NULL, NULL, NULL, '50.0', NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-01 00:00:00+00'),
    ('run-b', 'b/beta', 'b1', 'q2', 'ok', '1.0', 'acc', NULL, NULL, NULL, '50.0', NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-01 00:00:00+00'),
    ('run-b', 'b/beta', 'b1', 'q3', 'ok', '0.0', 'acc', NULL, NULL, NULL, '50.0', NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-01 00:00:00+00'),
    ('run-b', 'b/beta', 'b1', 'q4', 'ok', '0.5', 'acc', NULL, NULL, NULL, '50.0', NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-01 00:00:00+00'),
    ('run-b', 'b/beta', 'b1', 'q5', 'ok', '1.0', 'acc', NULL, NULL, NULL, '50.0', NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-01 00:00:00+00'),
    ('run-c', 'c/gamma', 'import', 'q1', 'ok', '0.0', 'acc', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-01 00:00:00+00'),
    ('run-c', 'c/gamma', 'import', 'q2', 'ok', '0.0', 'acc', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-01 00:00:00+00'),
    ('run-c', 'c/gamma', 'import', 'q6', 'ok', '1.0', 'acc', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-01 00:00:00+00');
INSERT INTO score_part (part_sha256, run_id, n_rows, merged_at) VALUES
    ('044b4f95de658041237e781ae462b95b51787a8662b0a327edff316eacd5735c', 'run-c', '3', '2026-11-28 15:17:37.12605+00'),
    ('2be4a12d60d3efcc07145484a158ec63611d11deadfa3ce3147461a3598ece3c', 'run-a1', '6', '2026-11-28 15:17:36.883938+00'),
    ('2d925f42e7c8973c3d89fa6f9cb9cd48658124ee3e4ee037b65ca89e5c7f0261', 'run-b', '5', '2026-11-28 15:17:37.036613+00'),
    ('8b0b27b61bcce98a318a29ba2fd522baeb2065ba43ca093d622e821a6b6f212e', 'run-a2', '2', '2026-11-28 15:17:36.944593+00');
INSERT INTO snapshot (snapshot_id, parent, created_at, manifest_sha256, checkpoint_id, n_models, n_queries, n_scores) VALUES
    ('s1', NULL, '2026-11-28 15:17:37.37613+00', '00', 'new', '3', '6', '13');
INSERT INTO task (task, task_version, source, output_type, primary_metric, added_at) VALUES
    ('arith', '1', 'matrix', NULL, NULL, '2026-11-28 15:17:34.999566+00'),
    ('geo', '1', 'matrix', NULL, NULL, '2026-11-28 15:17:34.999566+00');
