"""Bytes on disk to records: pcap, pcapng, compression, link types, health, and a writer."""
