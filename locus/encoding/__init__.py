"""Query text to vectors, by a frozen sentence encoder."""

from locus.encoding.precision import Precision, precision_of
from locus.encoding.text import DEFAULT_ENCODER, EncoderError, TextEncoder, encoder_identity

__all__ = [
    "DEFAULT_ENCODER",
    "EncoderError",
    "Precision",
    "TextEncoder",
    "encoder_identity",
    "precision_of",
]
