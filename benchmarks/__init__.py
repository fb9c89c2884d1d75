"""Speed as ratios against peers in one run: `make bench`. README.md says how to read it."""
