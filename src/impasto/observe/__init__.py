"""What a run leaves for people who want to know how it went."""
