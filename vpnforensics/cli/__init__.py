"""The command line ``vpnf``: the only place that prints and knows exit codes."""
