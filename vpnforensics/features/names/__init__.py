"""Names of the far side, as clients gave them in the clear: DNS, TLS SNI, HTTP Host, QUIC SNI."""
