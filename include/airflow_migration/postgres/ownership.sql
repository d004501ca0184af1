-- Every object that is not an extension's and does not belong to %(owner)s: kind and quoted name.
WITH extension_members AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
wanted AS (SELECT oid FROM pg_roles WHERE rolname = %(owner)s)
-- Of a schema only who has its owner's rights; somebody else's can be used as it is.
SELECT 'SCHEMA', quote_ident(nspname) FROM pg_namespace n
 WHERE nspname NOT LIKE 'pg\_%%' AND nspname NOT IN ('information_schema', 'public')
   AND nspowner <> (SELECT oid FROM wanted) AND pg_has_role(nspowner, 'USAGE')
   AND NOT EXISTS (SELECT FROM extension_members e WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid)
UNION ALL
SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
       WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, format('%%I.%%I', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'S', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
   AND n.nspname NOT LIKE 'pg\_temp%%' AND c.relowner <> (SELECT oid FROM wanted)
   AND NOT EXISTS (SELECT FROM extension_members e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid)
   AND NOT (c.relkind = 'S' AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
            AND d.objid = c.oid AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0))
UNION ALL
SELECT CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, format('%%I.%%I', n.nspname, t.typname)
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
 WHERE (t.typtype IN ('e', 'd', 'r')
        OR t.typtype = 'c' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
   AND t.typowner <> (SELECT oid FROM wanted)
   AND NOT EXISTS (SELECT FROM extension_members e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid)
UNION ALL
SELECT 'ROUTINE', p.oid::regprocedure::text
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND p.proowner <> (SELECT oid FROM wanted)
   AND NOT EXISTS (SELECT FROM extension_members e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid)
