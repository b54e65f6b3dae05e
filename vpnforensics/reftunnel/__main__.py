"""``python -m vpnforensics.reftunnel``: the same commands as ``vpnf tunnel``, which live in ``cli``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("vpnforensics.cli.tunnel", run_name="__main__")
