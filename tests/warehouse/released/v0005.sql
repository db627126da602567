-- Rows of a warehouse at schema version 5; see tests/warehouse/released.py.
INSERT INTO audit_log (logged_at, action, subject, detail) VALUES
    ('2026-11-28 15:17:45.551544+00', 'publish', 's1', '{"by": "test"}');
INSERT INTO canary (run_id, model_id, revision, query_id, status, score, response_sha256, response, asked_at, tokens_in, tokens_out, latency_ms, cost_usd) VALUES
    ('run-k', 'b/beta', 'b1', 'q1', 'ok', '1.0', '0000000000000000000000000000000000000000000000000000000000000000', 'yes; or ''no''', '2026-01-05 00:00:30+00', '5', '1', '20.0', '0.01');
INSERT INTO checkpoint (checkpoint_id, parent, created_at, state, encoder, config, metrics, n_models, n_queries, n_scores, git_sha) VALUES
    ('new', 'old', '2026-01-03 12:00:00+00', 'active', 'mini', '{"width": 2}', '{"auc": 0.7}', '3', NULL, NULL, NULL),
    ('old', NULL, '2026-01-03 02:00:00+00', 'retired', 'mini', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO evaluation_run (run_id, kind, model_id, revision, started_at, finished_at, status, n_planned, n_ok, n_other, settings, versions, git_sha, error) VALUES
    ('run-a1', 'evaluation', 'a/alpha', 'a1', '2026-11-28 15:17:45.365176+00', '2026-11-28 15:17:45.39324+00', 'finished', '6', '5', '1', '{"seed": 1}', '{"x": "1"}', 'abc', NULL),
    ('run-a2', 'evaluation', 'a/alpha', 'a2', '2026-11-28 15:17:45.396153+00', '2026-11-28 15:17:45.429204+00', 'finished', '2', '1', '1', '{"seed": 1}', '{"x": "1"}', 'abc', NULL),
    ('run-b', 'evaluation', 'b/beta', 'b1', '2026-11-28 15:17:45.431589+00', '2026-11-28 15:17:45.455586+00', 'finished', '5', '5', '0', '{"seed": 1}', '{"x": "1"}', 'abc', NULL),
    ('run-c', 'evaluation', 'c/gamma', 'import', '2026-11-28 15:17:45.459003+00', '2026-11-28 15:17:45.483687+00', 'finished', '3', '3', '0', '{"seed": 1}', '{"x": "1"}', 'abc', NULL),
    ('run-k', 'canary', 'b/beta', 'b1', '2026-01-05 00:00:00+00', '2026-01-05 00:01:00+00', 'finished', '1', '1', '0', '{}', '{"lm_eval": "0.4"}', NULL, NULL),
    ('run-z', 'evaluation', 'b/beta', 'b1', '2026-11-28 15:17:45.486564+00', '2026-11-28 15:17:45.490117+00', 'failed', '6', '0', '0', '{}', '{}', NULL, 'no answer from the server');
INSERT INTO model (model_id, org, family, params_b, released, license, price_in_usd_per_mtok, price_out_usd_per_mtok, source, metadata, added_at) VALUES
    ('a/alpha', 'a', NULL, NULL, NULL, NULL, NULL, NULL, 'registry', NULL, '2026-11-28 15:17:45.31796+00'),
    ('b/beta', 'b', NULL, NULL, NULL, NULL, NULL, NULL, 'registry', NULL, '2026-11-28 15:17:45.31796+00'),
    ('c/gamma', 'c', NULL, NULL, NULL, NULL, NULL, NULL, 'import', NULL, '2026-11-28 15:17:45.32904+00'),
    ('d/delta', 'd', NULL, NULL, NULL, NULL, NULL, NULL, 'registry', NULL, '2026-11-28 15:17:45.31796+00');
INSERT INTO model_embedding (model_id, revision, checkpoint_id, dim, vector, n_scores, scores_digest, embedded_at, uncertainty, covariance) VALUES
    ('a/alpha', 'r', 'new', '2', '[1.0, 0.0]', '3', 'd', '2026-11-28 15:17:45.528116+00', NULL, NULL),
    ('a/alpha', 'r', 'old', '1', '[1.0]', '3', 'd', '2026-11-28 15:17:45.504276+00', NULL, NULL),
    ('b/beta', 'r', 'new', '2', '[0.0, 2.0]', '3', 'd', '2026-11-28 15:17:45.528116+00', NULL, NULL),
    ('b/beta', 'r', 'old', '1', '[1.0]', '3', 'd', '2026-11-28 15:17:45.504276+00', NULL, NULL),
    ('c/gamma', 'r', 'new', '2', '[1.0, 1.0]', '3', 'd', '2026-11-28 15:17:45.528116+00', NULL, NULL);
INSERT INTO model_revision (model_id, revision, backend, backend_args, seen_at) VALUES
    ('a/alpha', 'a1', 'hf', NULL, '2026-01-01 00:00:00+00'),
    ('a/alpha', 'a2', 'hf', NULL, '2026-01-02 00:00:00+00'),
    ('b/beta', 'b1', 'hf', NULL, '2026-01-01 00:00:00+00'),
    ('c/gamma', 'import', 'hf', NULL, '2026-01-01 00:00:00+00');
INSERT INTO prediction (model_id, query_id, checkpoint_id, p_correct, predicted_at, deviation) VALUES
    ('a/alpha', 'q1', 'new', '0.2', '2026-11-28 15:17:45.545807+00', NULL),
    ('a/alpha', 'q4', 'new', '0.9', '2026-11-28 15:17:45.545807+00', NULL),
    ('a/alpha', 'q6', 'new', '0.2', '2026-11-28 15:17:45.545807+00', NULL),
    ('b/beta', 'q4', 'new', '0.91', '2026-11-28 15:17:45.545807+00', NULL);
INSERT INTO price (model_id, valid_from, in_usd_per_mtok, out_usd_per_mtok) VALUES
    ('b/beta', '2026-01-01', '0.5', '1.5');
INSERT INTO query (query_id, task, task_version, category, split, text, choices, target, doc, source_id, added_at) VALUES
    ('q1', 'arith', '1', NULL, 'train', 'text of q1', '[yes, no]', 'yes', '{"id": "q1"}', NULL, '2026-11-28 15:17:45.36046+00'),
    ('q2', 'arith', '1', NULL, 'train', 'text of q2', '[yes, no]', 'yes', '{"id": "q2"}', NULL, '2026-11-28 15:17:45.36046+00'),
    ('q3', 'arith', '1', NULL, 'val', 'text of q3', '[yes, no]', 'yes', '{"id": "q3"}', NULL, '2026-11-28 15:17:45.36046+00'),
    ('q4', 'arith', '1', NULL, 'test', 'text of q4', '[yes, no]', 'yes', '{"id": "q4"}', NULL, '2026-11-28 15:17:45.36046+00'),
    ('q5', 'geo', '1', NULL, 'train', 'text of q5', '[yes, no]', 'yes', '{"id": "q5"}', NULL, '2026-11-28 15:17:45.36046+00'),
    ('q6', 'geo', '1', NULL, 'test', 'text of q6', '[yes, no]', 'yes', '{"id": "q6"}', NULL, '2026-11-28 15:17:45.36046+00');
INSERT INTO schema_version (version, name, sha256, applied_at) VALUES
    ('1', '0001_foundation.sql', 'cf2676e322b1b6f72e7ff574a590cca21f42674442d4564cafbae9bc1064bb0a', '2026-11-28 15:17:45.094546+00'),
    ('2', '0002_views.sql', '1f8e28a6a967083f0c271cea9a9a1834f0b06658ce6e7974948f3c1fd20081f0', '2026-11-28 15:17:45.114674+00'),
    ('3', '0003_uncertainty.sql', '671e1e180ef396ac7bc56525d967cdca83c2ce1019748ec969b956a458787d3b', '2026-11-28 15:17:45.137486+00'),
    ('4', '0004_asking.sql', 'ccb7941c6dbaeb602f5643bba34d500e2cabaa92847beb2f28ff5afb685c54b1', '2026-11-28 15:17:45.184656+00'),
    ('5', '0005_canaries.sql', '9a34cac9eb1af82195444e45b7794757f8535476ec9874f08994cee07e867551', '2026-11-28 15:17:45.265591+00');
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
    ('00ff', 'run-k', '1', '2026-01-05 00:01:00+00'),
    ('044b4f95de658041237e781ae462b95b51787a8662b0a327edff316eacd5735c', 'run-c', '3', '2026-11-28 15:17:45.478981+00'),
    ('2be4a12d60d3efcc07145484a158ec63611d11deadfa3ce3147461a3598ece3c', 'run-a1', '6', '2026-11-28 15:17:45.381572+00'),
    ('2d925f42e7c8973c3d89fa6f9cb9cd48658124ee3e4ee037b65ca89e5c7f0261', 'run-b', '5', '2026-11-28 15:17:45.4509+00'),
    ('8b0b27b61bcce98a318a29ba2fd522baeb2065ba43ca093d622e821a6b6f212e', 'run-a2', '2', '2026-11-28 15:17:45.42512+00');
INSERT INTO snapshot (snapshot_id, parent, created_at, manifest_sha256, checkpoint_id, n_models, n_queries, n_scores) VALUES
    ('s1', NULL, '2026-11-28 15:17:45.548665+00', '00', 'new', '3', '6', '13');
INSERT INTO task (task, task_version, source, output_type, primary_metric, added_at, num_fewshot) VALUES
    ('arith', '1', 'matrix', NULL, NULL, '2026-11-28 15:17:45.349127+00', NULL),
    ('geo', '1', 'matrix', NULL, NULL, '2026-11-28 15:17:45.349127+00', NULL);
