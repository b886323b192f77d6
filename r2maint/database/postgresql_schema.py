"""What the schema of a PostgreSQL database says: the text of functions, defaults, rules and more.

Whoever may connect may read these catalogues, whatever their privileges on the objects. Objects of
the system itself, whose ids are below 16384, are left out.
Source: https://www.postgresql.org/docs/current/catalogs.html
"""

from __future__ import annotations

_SINCE_12 = """
SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
SELECT pg_get_ruledef(oid) FROM pg_rewrite WHERE ev_class >= 16384
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype IN ('c', 'x')
SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
SELECT pg_get_functiondef(oid) FROM pg_proc WHERE oid >= 16384 AND prokind <> 'a'
SELECT unnest(ARRAY[agginitval, aggminitval]) FROM pg_aggregate WHERE aggfnoid >= 16384
SELECT typdefault FROM pg_type WHERE oid >= 16384
SELECT enumlabel FROM pg_enum
SELECT pg_get_expr(polqual, polrelid) FROM pg_policy
SELECT pg_get_expr(polwithcheck, polrelid) FROM pg_policy
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indexrelid >= 16384
SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext
SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relispartition
SELECT pg_get_partkeydef(oid) FROM pg_class WHERE relkind = 'p'
SELECT description FROM pg_description
SELECT description FROM pg_shdescription
SELECT label FROM pg_seclabel
SELECT label FROM pg_shseclabel
SELECT unnest(setconfig) FROM pg_db_role_setting
SELECT setting FROM pg_settings WHERE source <> 'default'
SELECT unnest(evttags) FROM pg_event_trigger
SELECT dictinitoption FROM pg_ts_dict WHERE oid >= 16384
SELECT unnest(extcondition) FROM pg_extension
SELECT unnest(reloptions) FROM pg_class WHERE oid >= 16384
SELECT unnest(attoptions || attfdwoptions) FROM pg_attribute WHERE attrelid >= 16384
SELECT unnest(ftoptions) FROM pg_foreign_table
SELECT unnest(fdwoptions) FROM pg_foreign_data_wrapper
SELECT option FROM pg_foreign_server, unnest(srvoptions) option WHERE option !~* '^[^=]*passw'
SELECT relname FROM pg_class WHERE oid >= 16384
SELECT attname FROM pg_attribute WHERE attrelid >= 16384 AND attnum > 0
SELECT typname FROM pg_type WHERE oid >= 16384
"""
"""One statement a line."""
_LATER = {
    150000: "SELECT pg_get_expr(prqual, prrelid) FROM pg_publication_rel",
    160000: "SELECT collicurules FROM pg_collation WHERE oid >= 16384",
}
"""First version -> what came with it."""


def definitions(version: int) -> str:
    """Return the statement that selects all of it as texts, for a `server_version_num`."""
    later = [sql for first, sql in _LATER.items() if version >= first]
    every = [f"({sql})" for sql in (*_SINCE_12.strip().splitlines(), *later)]
    return f"SELECT said::text FROM ({' UNION ALL '.join(every)}) AS definitions (said)"
