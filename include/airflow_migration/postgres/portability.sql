-- What of a database cannot be made on another server, and what hangs on it. Roots are left out; whatever belongs to
-- one of them goes with it; what only uses it is in the way.
WITH RECURSIVE superuser AS (SELECT %(superuser)s::boolean AS yes),
root AS (
    SELECT 'pg_extension'::regclass::oid AS classid, oid AS objid FROM pg_extension WHERE extname = ANY (%(extensions)s)
    UNION ALL
    SELECT 'pg_event_trigger'::regclass, oid FROM pg_event_trigger WHERE NOT (SELECT yes FROM superuser)
    UNION ALL
    SELECT 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper WHERE NOT (SELECT yes FROM superuser)
    UNION ALL
    SELECT 'pg_foreign_server'::regclass, oid FROM pg_foreign_server WHERE NOT (SELECT yes FROM superuser)
    UNION ALL
    SELECT 'pg_policy'::regclass, oid FROM pg_policy p
     WHERE EXISTS (SELECT FROM pg_roles r WHERE r.oid = ANY (p.polroles) AND r.rolname <> ALL (%(roles)s))
    UNION ALL
    SELECT 'pg_collation'::regclass, oid FROM pg_collation WHERE oid = ANY (%(collations)s)
),
walk AS (
    SELECT classid, objid, true AS goes FROM root
    UNION
    SELECT d.classid, d.objid,
           d.deptype <> 'n' OR d.classid IN ('pg_foreign_server'::regclass, 'pg_foreign_data_wrapper'::regclass,
                                             'pg_user_mapping'::regclass)
           OR (d.classid = 'pg_class'::regclass AND (SELECT relkind FROM pg_class WHERE oid = d.objid) = 'f')
      FROM pg_depend d
      JOIN walk w ON (d.refclassid, d.refobjid) = (w.classid, w.objid) AND w.goes
     WHERE (d.classid, d.objid) NOT IN (SELECT classid, objid FROM root)
)
SELECT classid, objid,
       -- Without its policies a table that holds even its owner to them shows no row to anybody.
       bool_or(goes) AND NOT (classid = 'pg_policy'::regclass
                              AND EXISTS (SELECT FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
                                           WHERE p.oid = objid AND c.relforcerowsecurity)) AS goes,
       (classid, objid) IN (SELECT classid, objid FROM root) AS root,
       pg_describe_object(classid, objid, 0) AS described
  FROM walk
 GROUP BY classid, objid
 ORDER BY described
