"""What a sender's header fields say: TCP clocks, IP ID sequences, devices."""
