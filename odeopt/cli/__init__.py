r"""The command line: options and tables over the functions of the package."""

from odeopt.cli.app import main

__all__ = ["main"]
