"""The database: schema, connections, group commit, and one module of statements per noun."""
