"""From one end of a flow to the other: tunnel, access link, server, Internet."""
