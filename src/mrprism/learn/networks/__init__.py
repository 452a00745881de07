"""Encoders and decoders, with no knowledge of raters."""
