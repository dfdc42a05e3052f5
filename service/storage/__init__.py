"""PostgreSQL: the schema, its migrations and every SQL statement.

May import: `service.domain`, `service.use_cases.ports` and `lease`, psycopg, yoyo. Must
not import: the other adapters or `bridge`. psycopg's errors end here.
"""
