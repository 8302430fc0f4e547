/** Digests of whole databases: equal exactly if schema and content are equal, whatever the order on disk. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { promisify } from 'node:util'
import { psql } from '../servers/postgres.ts'

export interface Digest {
  /** Over all parts. */
  digest: string
  /** What was compared, by name: `schema`, `table x`, … For telling what differs. */
  parts: Record<string, string>
  /** Rows in all tables. */
  rows: number
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

function digestOf(parts: Record<string, string>, rows: number): Digest {
  const lines = Object.keys(parts)
    .sort()
    .map(name => `${name}\n${parts[name]}`)
  return { digest: sha256(lines.join('\n')), parts, rows }
}

/** Schema, every table's rows in key order, and the settings kept in the file. Blocks while it reads. */
export function digestSqlite(path: string): Digest {
  statSync(path)
  const database = new DatabaseSync(path)
  try {
    const parts: Record<string, string> = {}
    let rows = 0
    const schema = database
      .prepare('SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name')
      .all() as { type: string; name: string; sql: string | null }[]
    parts.schema = sha256(JSON.stringify(schema))
    for (const pragma of [
      'user_version',
      'application_id',
      'encoding',
      'page_size',
      'auto_vacuum',
      'journal_mode',
    ]) {
      parts[`pragma ${pragma}`] = JSON.stringify(database.prepare(`PRAGMA ${pragma}`).get())
    }
    for (const { type, name, sql } of schema) {
      // A virtual table's content is in its shadow tables.
      if (type !== 'table' || sql?.startsWith('CREATE VIRTUAL')) continue
      const table = `"${name.replaceAll('"', '""')}"`
      const keyed = database
        .prepare('SELECT wr FROM pragma_table_list WHERE name = ? AND schema = ?')
        .get(name, 'main')
      const withoutRowid = keyed?.wr === 1
      const select = withoutRowid ? `SELECT * FROM ${table}` : `SELECT rowid, * FROM ${table} ORDER BY rowid`
      const statement = database.prepare(select)
      statement.setReadBigInts(true)
      const hash = createHash('sha256')
      for (const row of statement.iterate()) {
        rows += 1
        hash.update(rowText(row))
      }
      parts[`table ${name}`] = hash.digest('hex')
    }
    return digestOf(parts, rows)
  } finally {
    database.close()
  }
}

function rowText(row: Record<string, unknown>): string {
  let text = ''
  for (const value of Object.values(row)) {
    if (value instanceof Uint8Array) text += `x${Buffer.from(value).toString('base64')}\t`
    else if (typeof value === 'bigint') text += `i${value}\t`
    else if (typeof value === 'number') text += `r${value}\t`
    else text += `${JSON.stringify(value)}\t`
  }
  return `${text}\n`
}

const settings = `SET search_path = pg_catalog; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC';
SET extra_float_digits = 3; SET bytea_output = 'hex'; SET row_security = off; SET xmloption = content; SET lc_monetary = 'C';
`

/** Schema by pg_dump -s, every table's rows as sums of their hashes, sequences, large objects, the database's own properties. */
export async function digestPostgres(url: string): Promise<Digest> {
  const parts: Record<string, string> = {}
  parts.schema = sha256(await postgresSchema(url))
  const database = await psql(
    url,
    `${settings}SELECT json_build_object('encoding', pg_encoding_to_char(encoding), 'collate', datcollate, 'ctype', datctype,
      'locale', coalesce(to_jsonb(d)->>'datlocprovider','c'), 'icu', coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'),
      'owner', pg_get_userbyid(datdba), 'limit', datconnlimit, 'template', datistemplate, 'comment', shobj_description(d.oid, 'pg_database'),
      'acl', (SELECT json_agg(a::text ORDER BY a::text) FROM unnest(coalesce(datacl, acldefault('d', datdba))) a),
      'settings', (SELECT json_agg(pg_get_userbyid(nullif(setrole, 0)) || c ORDER BY setrole, c) FROM pg_db_role_setting s, unnest(setconfig) c WHERE setdatabase = d.oid),
      'database settings', (SELECT json_agg(c ORDER BY c) FROM pg_db_role_setting s, unnest(setconfig) c WHERE setdatabase = d.oid AND setrole = 0))
     FROM pg_database d WHERE datname = current_database()`,
  )
  parts.database = database
  const sums = await psql(
    url,
    `${settings}SELECT format($q$SELECT %L, count(*), coalesce(sum(('x' || substr(md5("holdfast row"::text), 1, 15))::bit(60)::bigint), 0) FROM ONLY %I.%I AS "holdfast row"$q$,
        format('table %I.%I', n.nspname, c.relname), n.nspname, c.relname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'm') AND c.relispopulated AND c.relpersistence <> 't' AND c.oid >= 16384 AND n.nspname <> 'information_schema'
      ORDER BY 1 \\gexec
SELECT format('SELECT %L, 0, (last_value, is_called)::text FROM %I.%I', format('sequence %I.%I', n.nspname, c.relname), n.nspname, c.relname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND c.oid >= 16384 ORDER BY 1 \\gexec
SELECT format('large object %s', oid), 0, md5(lo_get(oid)) || pg_get_userbyid(lomowner) || coalesce(lomacl::text, '') FROM pg_largeobject_metadata ORDER BY oid;
`,
  )
  let rows = 0
  for (const line of sums.split('\n')) {
    const match = /^(.*)\|(\d+)\|([^|]*)$/.exec(line)
    if (!match) continue
    parts[match[1] ?? ''] = `${match[2]} ${match[3]}`
    rows += Number(match[2])
  }
  return digestOf(parts, rows)
}

/** pg_dump -s without what differs from run to run; statements sorted. */
export async function postgresSchema(url: string): Promise<string> {
  const parsed = new URL(url)
  const { stdout } = await promisify(execFile)('pg_dump', ['-s', '-w', '--no-subscriptions'], {
    maxBuffer: 256 * 1024 * 1024,
    env: {
      ...process.env,
      PGHOST: parsed.hostname,
      PGPORT: parsed.port,
      PGUSER: decodeURIComponent(parsed.username),
      PGPASSWORD: decodeURIComponent(parsed.password),
      PGDATABASE: decodeURIComponent(parsed.pathname.slice(1)),
    },
  })
  return stdout
    .split('\n')
    .filter(line => !line.startsWith('--') && !/^\\(un)?restrict /.test(line))
    .join('\n')
    .split(/;\n/)
    .map(statement => statement.trim())
    .filter(statement => statement !== '')
    .sort()
    .join(';\n')
}
