"""What a snapshot holds: routing table, predictor, similarity, report, from plain frames."""
