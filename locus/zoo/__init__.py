"""Tiny language models trained locally in seconds, and the skills they are tested on."""
