"""Examples that run: topic modules for `agrenting serve`, and agents."""
