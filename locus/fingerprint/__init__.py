"""Is the same model behind two endpoints? A test whose error rates were measured on a pool.

Belongs here: the statistic of two placed sets of scores, its calibration, the verdict. Does not
belong here: how scores are placed (the caller's `place`), how endpoints are asked.

Three things tell: how far the two places are apart for what their uncertainty allows, how rare a
place it is that they share (two average models are alike by chance), and, on queries that both
answered, how often they agree. A logistic regression on pairs whose truth is known weighs them.

Shape letters: M pool models, Q bank queries, B placed models, P pairs, k width of a place.
"""

from locus.fingerprint._statistic import FingerprintError, place_features
from locus.fingerprint._verdict import Fingerprint, Side, Verdict

__all__ = ["Fingerprint", "FingerprintError", "Side", "Verdict", "place_features"]
