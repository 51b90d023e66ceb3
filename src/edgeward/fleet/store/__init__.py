"""What the fleet knows, in SQLite or PostgreSQL: tables, transactions, migrations."""
