"""``python -m heatbath``: the command line without the installed script."""

import sys

from heatbath.cli import main

if __name__ == "__main__":
    sys.exit(main())
