"""``python -m vpnforensics`` is ``vpnf``."""

import sys

from vpnforensics.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
