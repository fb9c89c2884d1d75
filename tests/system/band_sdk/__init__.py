"""Band's own SDK, unmodified, against a real server."""
