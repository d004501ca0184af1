"""Which columns of a table have values that can be written."""

from __future__ import annotations

from psycopg import sql

WRITABLE = sql.SQL("""(
    SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
       AND coalesce(to_jsonb(a) ->> 'attgenerated', '') = '')""")
"""SQL over `c`, a row of `pg_class`: names of its columns in order, NULL without any. Those that are generated have no
place in COPY or INSERT; before PostgreSQL 12 there are none."""
