"""``python -m odeopt``: the command line."""

from odeopt.cli import main

if __name__ == "__main__":
    main()
