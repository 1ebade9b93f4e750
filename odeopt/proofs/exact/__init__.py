r"""Exact arithmetic for proofs: polynomials, signs, and the reader of expressions."""

__all__ = []
