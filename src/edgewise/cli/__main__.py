"""`python -m edgewise.cli`, where the script `edgewise` is not on the path."""

import sys

from edgewise.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
