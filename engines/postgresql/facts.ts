/** What a PostgreSQL server and one of its databases say about themselves. Kept in the manifest; a restore reads it. */
import { z } from 'zod'
import { isForeignId } from '../../model/foreign.ts'
import type { Manifest } from '../../model/manifest.ts'
import { literal } from './client.ts'

export const serverFacts = z.object({
  /** '' where the role may not read it. */
  systemIdentifier: z.string(),
  versionNum: z.int(),
  version: z.string(),
  inRecovery: z.boolean(),
  /** Of a standby: how long ago what it replayed last was committed; null where nobody knows. */
  replayedSecondsAgo: z.int().nullable().default(null),
  user: z.string(),
  superuser: z.boolean(),
  createDatabases: z.boolean(),
  tablespaces: z.array(z.string()),
  /** max_locks_per_transaction × (max_connections + max_prepared_transactions), in its parts. */
  maxLocksPerTransaction: z.int(),
  maxConnections: z.int(),
  maxPreparedTransactions: z.int(),
})

export const objectKinds = [
  'schemas',
  'tables',
  'indexes',
  'sequences',
  'views',
  'materializedViews',
  'foreignTables',
  'functions',
  'types',
  'triggers',
  'constraints',
  'policies',
  'eventTriggers',
  'largeObjects',
] as const
const counts = z.object(
  Object.fromEntries(objectKinds.map(kind => [kind, z.int()])) as Record<
    (typeof objectKinds)[number],
    z.ZodInt
  >,
)
export type ObjectCounts = z.infer<typeof counts>
export const readCounts = (json: string): ObjectCounts => counts.parse(JSON.parse(json))

export const databaseFacts = z.object({
  encoding: z.string(),
  collate: z.string(),
  ctype: z.string(),
  /** `c` libc, `i` ICU, `b` built in. */
  localeProvider: z.string(),
  locale: z.string().nullable(),
  icuRules: z.string().nullable(),
  owner: z.string(),
  tablespace: z.string(),
  /** Tablespaces that tables and indexes name. */
  tablespaces: z.array(z.string()),
  connectionLimit: z.int(),
  isTemplate: z.boolean(),
  comment: z.string().nullable(),
  /** null: the default. A grantee of null is PUBLIC. */
  acl: z
    .array(z.object({ grantee: z.string().nullable(), privilege: z.string(), grantable: z.boolean() }))
    .nullable(),
  /** ALTER DATABASE … SET, ALTER ROLE … IN DATABASE … SET. */
  settings: z.array(z.object({ role: z.string().nullable(), name: z.string(), value: z.string() })),
  extensions: z.array(z.object({ name: z.string(), version: z.string() })),
  /** Roles that own something here, are granted something or have settings here. */
  roles: z.array(z.string()),
  /** Roles that a restore without owners and grants still names. */
  neededRoles: z.array(z.string()),
  counts,
  lockableObjects: z.int(),
  /** What a dump by this role would fail on: at most 20 names and how many there are. */
  unreadable: z.object({ total: z.int(), names: z.array(z.string()) }),
  rowSecurity: z.object({ total: z.int(), names: z.array(z.string()) }),
  subscriptions: z.int(),
  /**
   * Rows of every table (at most a thousand, the largest), as the server's statistics had them just before the backup; null: they
   * say nothing of it.
   */
  rowEstimates: z.array(z.object({ table: z.string(), rows: z.int().nullable() })).default([]),
})
export const postgresqlFacts = z.object({ server: serverFacts, database: databaseFacts })
export type PostgresqlFacts = z.infer<typeof postgresqlFacts>
/** Of a dump that was not made here: the defaults of the target's server are taken, and '' is not known. */
const unknown: PostgresqlFacts = {
  server: {
    systemIdentifier: '',
    versionNum: 0,
    version: '',
    inRecovery: false,
    replayedSecondsAgo: null,
    user: '',
    superuser: false,
    createDatabases: false,
    tablespaces: [],
    maxLocksPerTransaction: 0,
    maxConnections: 0,
    maxPreparedTransactions: 0,
  },
  database: {
    encoding: '',
    collate: '',
    ctype: '',
    localeProvider: '',
    locale: null,
    icuRules: null,
    owner: '',
    tablespace: 'pg_default',
    tablespaces: [],
    connectionLimit: -1,
    isTemplate: false,
    comment: null,
    acl: null,
    settings: [],
    extensions: [],
    roles: [],
    neededRoles: [],
    counts: Object.fromEntries(objectKinds.map(kind => [kind, 0])) as ObjectCounts,
    lockableObjects: 0,
    unreadable: { total: 0, names: [] },
    rowSecurity: { total: 0, names: [] },
    subscriptions: 0,
    rowEstimates: [],
  },
}

/** What the backup says of its server and database. */
export const factsOf = ({ backupId, facts }: Manifest): PostgresqlFacts =>
  isForeignId(backupId) ? unknown : postgresqlFacts.parse(facts)

export type TargetServerFacts = z.infer<typeof serverFacts>

/** Nobody's functions stand in for the catalog's. */
const preamble = 'SET search_path = pg_catalog;\n'

/** One line of JSON. The system identifier is asked apart: a managed service may not let the role read it. */
export const serverSql = `${preamble}SELECT has_function_privilege('pg_control_system()', 'execute') AS readable \\gset
\\if :readable
SELECT system_identifier AS system_identifier FROM pg_control_system() \\gset
\\else
\\set system_identifier ''
\\endif
SELECT json_build_object(
  'systemIdentifier', :'system_identifier'::text,
  'versionNum', current_setting('server_version_num')::int,
  'version', split_part(current_setting('server_version'), ' ', 1),
  'inRecovery', pg_is_in_recovery(),
  'replayedSecondsAgo', CASE WHEN pg_is_in_recovery() THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::int END,
  'dataDirectory', (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
  'user', current_user,
  'superuser', r.rolsuper,
  'createDatabases', r.rolsuper OR r.rolcreatedb,
  'tablespaces', (SELECT json_agg(spcname ORDER BY spcname) FROM pg_tablespace WHERE spcname <> 'pg_global'),
  'maxLocksPerTransaction', current_setting('max_locks_per_transaction')::int,
  'maxConnections', current_setting('max_connections')::int,
  'maxPreparedTransactions', current_setting('max_prepared_transactions')::int
) FROM pg_roles r WHERE r.rolname = current_user;
`

/** Objects that are the database's own: not the system's, not an extension's, not temporary. */
const own = (catalog: string, alias: string, where = '') =>
  `FROM ${catalog} ${alias} WHERE ${alias}.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '${catalog}'::regclass AND e.objid = ${alias}.oid AND e.deptype = 'e')${where}`
const count = (catalog: string, where = '') => `(SELECT count(*)::int ${own(catalog, 'o', where)})`
const relations = (kinds: string) =>
  count('pg_class', ` AND o.relpersistence <> 't' AND o.relkind IN (${kinds}) AND o.relnamespace <> 99`)

const countsObject = `json_build_object(
  'schemas', ${count('pg_namespace', " AND o.nspname NOT LIKE 'pg\\_%'")},
  'tables', ${relations("'r','p'")},
  'indexes', ${relations("'i','I'")},
  'sequences', ${relations("'S'")},
  'views', ${relations("'v'")},
  'materializedViews', ${relations("'m'")},
  'foreignTables', ${relations("'f'")},
  'functions', ${count('pg_proc')},
  'types', ${count('pg_type', " AND o.typtype IN ('e','d','r','c') AND (o.typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = o.typrelid AND c.relkind = 'c'))")},
  'triggers', ${count('pg_trigger', ' AND NOT o.tgisinternal')},
  'constraints', ${count('pg_constraint')},
  'policies', ${count('pg_policy')},
  'eventTriggers', ${count('pg_event_trigger')},
  'largeObjects', (SELECT count(*)::int FROM pg_largeobject_metadata)
)`
export const countsSql = `${preamble}SELECT ${countsObject};\n`

const listed = (select: string) =>
  `(SELECT json_build_object('total', count(*)::int, 'names', coalesce(json_agg(name ORDER BY name) FILTER (WHERE n <= 20), '[]')) FROM (SELECT name, row_number() OVER (ORDER BY name) AS n FROM (${select}) s) t)`

const unreadable = listed(`
  SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid >= 16384 AND c.relkind IN ('r','p','m','S','v','f') AND c.relpersistence <> 't'
     AND c.relkind IN ('r','p','m','S') AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
     AND NOT (CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT') ELSE has_table_privilege(c.oid, 'SELECT') END)
  UNION ALL
  SELECT format('schema %I', nspname) FROM pg_namespace n
   WHERE n.oid >= 16384 AND nspname NOT LIKE 'pg\\_%' AND NOT has_schema_privilege(n.oid, 'USAGE')`)
const rowSecurity = listed(`
  SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid >= 16384 AND c.relkind IN ('r','p') AND c.relrowsecurity AND row_security_active(c.oid)`)

/** pg_shdepend leaves the bootstrap superuser out: owners are asked for themselves. */
const roles = `(SELECT coalesce(json_agg(rolname ORDER BY rolname), '[]') FROM pg_roles WHERE oid IN (
  SELECT d.datdba UNION SELECT refobjid FROM pg_shdepend WHERE dbid = d.oid AND refclassid = 'pg_authid'::regclass
  UNION SELECT relowner FROM pg_class WHERE oid >= 16384 AND relpersistence <> 't' UNION SELECT proowner FROM pg_proc WHERE oid >= 16384
  UNION SELECT nspowner FROM pg_namespace WHERE oid >= 16384 AND nspname NOT LIKE 'pg\\_%'
  UNION SELECT typowner FROM pg_type WHERE oid >= 16384
  UNION SELECT a.grantee FROM aclexplode(d.datacl) a UNION SELECT setrole FROM pg_db_role_setting WHERE setdatabase = d.oid))`
const neededRoles = `(SELECT coalesce(json_agg(DISTINCT rolname), '[]') FROM pg_roles WHERE oid IN (
  SELECT unnest(polroles) FROM pg_policy UNION SELECT umuser FROM pg_user_mappings))`

/** Whose rows are counted: `c` of pg_class, `n` of pg_namespace. */
export const countedTables = `c.relkind IN ('r', 'm') AND c.relispopulated AND c.relpersistence <> 't'
    AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'`

/**
 * Those that come back with the rows they had: not what is unlogged, not what is refreshed, and not what an extension fills by
 * itself.
 */
const comparableTables = `c.relkind = 'r' AND c.relpersistence = 'p'
    AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')`

/** One line of JSON about the database that is connected to. Works on 10 to 18: columns that came later are read as JSON. */
export const databaseSql = `${preamble}SELECT json_build_object(
  'sizeBytes', pg_database_size(d.oid),
  'encoding', pg_encoding_to_char(d.encoding),
  'collate', d.datcollate,
  'ctype', d.datctype,
  'localeProvider', coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
  'locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
  'icuRules', to_jsonb(d) ->> 'daticurules',
  'owner', pg_get_userbyid(d.datdba),
  'tablespace', (SELECT spcname FROM pg_tablespace t WHERE t.oid = d.dattablespace),
  'tablespaces', (SELECT coalesce(json_agg(spcname ORDER BY spcname), '[]') FROM pg_tablespace t
                   WHERE t.oid IN (SELECT reltablespace FROM pg_class WHERE oid >= 16384 AND relpersistence <> 't')),
  'connectionLimit', d.datconnlimit,
  'isTemplate', d.datistemplate,
  'comment', shobj_description(d.oid, 'pg_database'),
  'acl', CASE WHEN d.datacl IS NULL THEN NULL ELSE (SELECT coalesce(json_agg(json_build_object(
      'grantee', CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END,
      'privilege', a.privilege_type, 'grantable', a.is_grantable)), '[]') FROM aclexplode(d.datacl) a) END,
  'settings', (SELECT coalesce(json_agg(json_build_object(
      'role', CASE WHEN s.setrole = 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END,
      'name', split_part(c, '=', 1), 'value', substr(c, strpos(c, '=') + 1)) ORDER BY s.setrole, c), '[]')
      FROM pg_db_role_setting s, unnest(s.setconfig) c WHERE s.setdatabase = d.oid),
  'extensions', (SELECT coalesce(json_agg(json_build_object('name', extname, 'version', extversion) ORDER BY extname), '[]') FROM pg_extension),
  'roles', ${roles},
  'neededRoles', ${neededRoles},
  'counts', ${countsObject},
  'lockableObjects', (SELECT count(*)::int FROM pg_class WHERE oid >= 16384 AND relkind IN ('r','p','v','m','S','f')),
  'unreadable', ${unreadable},
  'rowSecurity', ${rowSecurity},
  'subscriptions', (SELECT count(subdbid)::int FROM pg_subscription WHERE subdbid = d.oid),
  'rowEstimates', (SELECT coalesce(json_agg(json_build_object('table', t.name, 'rows', t.rows) ORDER BY t.name), '[]') FROM (
      SELECT n.nspname || '.' || c.relname AS name,
        coalesce(nullif(pg_stat_get_live_tuples(c.oid), 0), CASE WHEN c.reltuples > 0 THEN c.reltuples::bigint END) AS rows
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${countedTables}
        AND ${comparableTables} ORDER BY c.relpages DESC, c.oid LIMIT 1000) t)
) FROM pg_database d WHERE d.datname = current_database();
`

/** What the target's server lacks of what a backup needs; one line of JSON. */
export function targetSql(target: string, needed: { roles: string[]; extensions: string[] }): string {
  const list = (names: string[]) => `ARRAY[${names.map(literal).join(',')}]::text[]`
  const missing = (names: string[], table: string, column: string) =>
    `(SELECT coalesce(json_agg(n ORDER BY n), '[]') FROM unnest(${list(names)}) n WHERE n NOT IN (SELECT ${column}::text FROM ${table}))`
  return `${preamble}SELECT json_build_object(
  'versionNum', current_setting('server_version_num')::int,
  'version', split_part(current_setting('server_version'), ' ', 1),
  'inRecovery', pg_is_in_recovery(),
  'user', current_user,
  'createDatabases', (SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user),
  'exists', EXISTS (SELECT FROM pg_database WHERE datname = ${literal(target)}),
  'missingRoles', ${missing(needed.roles, 'pg_roles', 'rolname')},
  'notMember', (SELECT coalesce(json_agg(rolname::text ORDER BY rolname), '[]') FROM pg_roles WHERE rolname::text = ANY (${list(needed.roles)}) AND NOT pg_has_role(oid, 'MEMBER')),
  'missingExtensions', ${missing(needed.extensions, 'pg_available_extensions', 'name')}
);
`
}
