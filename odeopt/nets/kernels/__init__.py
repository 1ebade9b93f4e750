r"""Kernels of finite networks: in closed form, by Jacobian products, on a device."""

__all__ = []
