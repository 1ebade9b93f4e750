r"""Training by an update rule's own step."""

__all__ = []
