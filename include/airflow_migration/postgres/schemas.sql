-- Every object of schema %(schema)s that can be moved by itself: kind, quoted name, bare name.
-- What belongs to a table (row type, indexes, sequences of its columns) follows it; an extension's members stay.
WITH home AS (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s),
extension_members AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
SELECT 'ROUTINE', format('%%I.%%I(%%s)', %(schema)s::text, p.proname, pg_get_function_identity_arguments(p.oid)),
       p.proname::text
  FROM pg_proc p
 WHERE p.pronamespace = (SELECT oid FROM home)
   AND NOT EXISTS (SELECT FROM extension_members e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid)
UNION ALL
SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
       WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, format('%%I.%%I', %(schema)s::text, c.relname), c.relname::text
  FROM pg_class c
 WHERE c.relkind IN ('r', 'p', 'S', 'v', 'm', 'f') AND c.relnamespace = (SELECT oid FROM home)
   AND NOT EXISTS (SELECT FROM extension_members e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid)
   AND NOT (c.relkind = 'S' AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
            AND d.objid = c.oid AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0))
UNION ALL
SELECT CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, format('%%I.%%I', %(schema)s::text, t.typname),
       t.typname::text
  FROM pg_type t
 WHERE (t.typtype IN ('e', 'd', 'r')
        OR t.typtype = 'c' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
   AND t.typnamespace = (SELECT oid FROM home)
   AND NOT EXISTS (SELECT FROM extension_members e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid)
