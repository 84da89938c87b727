"""python -m bench COMMAND ..; see cli.py."""

import sys

from bench.cli import command_line

if __name__ == "__main__":
    sys.exit(command_line(sys.argv[1:]))
