"""``python -m retina_fm``: the command ``retina-fm`` where its script is not on the path."""

import sys

from retina_fm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
