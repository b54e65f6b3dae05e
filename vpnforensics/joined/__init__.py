"""A decided case beside what others wrote down of the same traffic: usage logs, translations, Zeek."""
