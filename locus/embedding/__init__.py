"""Scores to model embeddings: attention encoder, correctness predictor, training, checkpoints.

The architecture is that of LOCUS (arXiv 2601.21082, section 3): a permutation-invariant encoder
over the set of (query encoding, score) pairs of one model, and a predictor over (model embedding,
query encoding). torch is imported by the modules inside, never by this one, so that the command
line starts quickly.
"""
