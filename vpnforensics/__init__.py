"""vpnforensics: which encrypted tunnel carried which decrypted flow, with evidence."""
