/**
 * The SQL that puts a proven copy in the place of an existing database. Databases are told by their OIDs and by our mark in
 * their comments, looked at inside the transaction that changes them. Nothing is committed before the exchange, so a run
 * that is killed leaves the old database as it was, with its clients let in.
 */
import { identifier, literal } from './client.ts'
import { listSettings } from './statements.ts'

export interface SwapNames {
  /** Of the copy, whose comment is `mark`. */
  temporary: string
  final: string
  /** Of the old database from the exchange on. */
  kept: string
  mark: string
  token: string
  oldOid: string
  /** '' where the role may not read it. */
  systemIdentifier: string
}

const comment = "shobj_description(oid, 'pg_database')"
/** Begins the comment of the old database while it is kept; the OID of its successor and its own comment follow. */
const keptMark = (token: string): string => `holdfast keeps ${token} for `
const keptPattern = literal('^holdfast keeps [a-z0-9]+ for [0-9]+: ')

const marked = (token: string) => {
  const mark = keptMark(token)
  return `left(${comment}, ${mark.length}) = ${literal(mark)}`
}
const old = (n: SwapNames, name: string) => `oid = ${n.oldOid} AND datname = ${literal(name)}`
const keptOld = (n: SwapNames) => `${old(n, n.kept)} AND ${marked(n.token)}`
const copy = (n: SwapNames, name: string) => `datname = ${literal(name)} AND ${comment} = ${literal(n.mark)}`
const exists = (where: string) => `EXISTS (SELECT FROM pg_database WHERE ${where})`

/** One after the other, whoever asks: a client that was killed leaves its statement running on the server. */
const inTurn = (n: SwapNames) =>
  `PERFORM pg_advisory_xact_lock(hashtext(${literal(`holdfast swap ${n.token}`)}));`

const refuse = (code: string, words: string) =>
  `RAISE EXCEPTION '%', ${literal(`holdfast ${code}: ${words}`)};`

const block = (declare: string, body: string): string =>
  `SET search_path = pg_catalog;\nDO ${literal(`${declare === '' ? '' : `DECLARE ${declare}\n`}BEGIN\n${body}\nEND`)};\n`

/**
 * Ends the sessions of both databases and renames them. RENAME lets nobody in from its first moment and waits some seconds
 * for those inside, so clients wait instead of being refused; whoever came in between the two statements is why it is tried again.
 */
const exchangeNames = (renames: string[], n: SwapNames, copyName: string): string => `
  FOR attempt IN 1..5 LOOP
    PERFORM pg_stat_clear_snapshot();
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE pid <> pg_backend_pid() AND usesysid IS NOT NULL
        AND datid IN (SELECT oid FROM pg_database WHERE oid = ${n.oldOid} OR ${copy(n, copyName)});
    BEGIN
      ${renames.map(rename => `${rename};`).join('\n      ')}
      EXIT;
    EXCEPTION WHEN object_in_use THEN
      IF attempt = 5 THEN RAISE; END IF;
    END;
  END LOOP;`

const rename = (from: string, to: string) => `ALTER DATABASE ${identifier(from)} RENAME TO ${identifier(to)}`

/** What a rename would lose or leave behind. One row per obstacle, in words. */
export const obstacles = (oid: string): string => `
  SELECT format('logical replication slot "%s"', slot_name) AS obstacle FROM pg_replication_slots WHERE datoid = ${oid}
  UNION ALL SELECT format('%s subscriptions', count(subdbid)) FROM pg_subscription WHERE subdbid = ${oid} HAVING count(subdbid) > 0
  UNION ALL SELECT format('prepared transaction "%s"', gid) FROM pg_prepared_xacts
    WHERE database = (SELECT datname FROM pg_database WHERE oid = ${oid})
  UNION ALL SELECT 'it is a template' FROM pg_database WHERE oid = ${oid} AND datistemplate
  UNION ALL SELECT 'it allows no connections' FROM pg_database WHERE oid = ${oid} AND NOT datallowconn`

/** Asserts both databases, ends their sessions, renames both, closes the old one. All of it or nothing. */
export const exchangeSql = (n: SwapNames): string =>
  block(
    'copy_oid oid; hindrance text;',
    `  ${inTurn(n)}
  ${
    n.systemIdentifier === ''
      ? ''
      : `IF (SELECT system_identifier::text FROM pg_control_system()) <> ${literal(n.systemIdentifier)} THEN
    ${refuse('restore.target-changed', 'this is another server than the plan names')}
  END IF;`
  }
  -- Done by a run whose answer was lost.
  IF ${exists(keptOld(n))} AND ${exists(copy(n, n.final))} THEN RETURN; END IF;
  IF NOT ${exists(old(n, n.final))} THEN
    ${refuse('restore.target-changed', `the database "${n.final}" is not the one that the plan replaces (OID ${n.oldOid})`)}
  END IF;
  SELECT oid INTO copy_oid FROM pg_database WHERE ${copy(n, n.temporary)};
  IF NOT FOUND THEN
    ${refuse('restore.target-changed', `the restored database "${n.temporary}" is not there any more`)}
  END IF;
  SELECT string_agg(obstacle, ', ') INTO hindrance FROM (${obstacles(n.oldOid)}) o;
  IF hindrance IS NOT NULL THEN
    RAISE EXCEPTION '%', ${literal(`holdfast restore.swap-refused: "${n.final}" cannot be renamed: `)} || hindrance;
  END IF;
${exchangeNames([rename(n.final, n.kept), rename(n.temporary, n.final)], n, n.temporary)}
  ALTER DATABASE ${identifier(n.kept)} ALLOW_CONNECTIONS false;
  EXECUTE format('COMMENT ON DATABASE %I IS %L', ${literal(n.kept)}, ${literal(keptMark(n.token))} || copy_oid || ': '
    || coalesce((SELECT ${comment} FROM pg_database WHERE oid = ${n.oldOid}), ''));`,
  )

/** The other way, until clients were let in. Nothing to do is fine; so is a copy that somebody dropped meanwhile. */
export const rollBackSql = (n: SwapNames): string =>
  block(
    '',
    `  ${inTurn(n)}
  IF NOT ${exists(keptOld(n))} THEN RETURN; END IF;
  IF ${exists(`datname = ${literal(n.final)}`)} AND NOT ${exists(copy(n, n.final))} THEN RETURN; END IF;
  IF ${exists(copy(n, n.final))} THEN
${exchangeNames([rename(n.final, n.temporary), rename(n.kept, n.final)], n, n.final)}
  ELSE
    ${rename(n.kept, n.final)};
  END IF;
  ALTER DATABASE ${identifier(n.final)} ALLOW_CONNECTIONS true;
  EXECUTE format('COMMENT ON DATABASE %I IS %L', ${literal(n.final)},
    nullif(regexp_replace((SELECT ${comment} FROM pg_database WHERE oid = ${n.oldOid}), ${keptPattern}, ''), ''));`,
  )

/** Fails (division by zero) unless there is nothing to bring back. */
export const rolledBackSql = (n: SwapNames): string =>
  check(
    `(NOT ${exists(keptOld(n))}) OR (${exists(`datname = ${literal(n.final)}`)} AND NOT ${exists(copy(n, n.final))})`,
  )

/** What clients meet is what was there: owner, grants, settings, limit and comment of the old database. */
export const openSql = (n: SwapNames): string => `SET search_path = pg_catalog;
BEGIN;
SELECT pg_advisory_xact_lock(hashtext(${literal(`holdfast swap ${n.token}`)})) \\gset holdfast_
${likeTheOldSql(keptOld(n), copy(n, n.final))}COMMIT;
${check(opened(n))}`

/** The same for the copy under its temporary name, taken back: what would fail at the end fails before the data is loaded. */
export const tryOpenSql = (n: SwapNames): string =>
  `BEGIN;\n${likeTheOldSql(old(n, n.final), copy(n, n.temporary))}ROLLBACK;\n`

const opened = (n: SwapNames) =>
  `${exists(keptOld(n))} AND ${exists(`datname = ${literal(n.final)} AND coalesce(${comment}, '') <> ${literal(n.mark)}`)}`

/** Fails (division by zero) unless clients were let in. */
export const openedSql = (n: SwapNames): string => check(opened(n))
/** Fails (division by zero) unless the exchange was made. */
export const exchangedSql = (n: SwapNames): string => check(exists(keptOld(n)))

const check = (condition: string): string =>
  `SET search_path = pg_catalog;\nSELECT 1 / (CASE WHEN ${condition} THEN 1 ELSE 0 END);\n`

/** Statements made from what the old database is now, run one by one. Without both databases there are none. */
function likeTheOldSql(oldWhere: string, copyWhere: string): string {
  const lists = listSettings.map(literal).join(', ')
  const list = String.raw`\s*(?:"((?:[^"]|"")*)"|([^,"]*))\s*(?:,|$)`
  return `WITH o AS (SELECT *, ${comment} AS words FROM pg_database WHERE ${oldWhere}),
 n AS (SELECT datname FROM pg_database WHERE ${copyWhere}),
 s AS (SELECT setrole, place, split_part(setting, '=', 1) AS name, substr(setting, strpos(setting, '=') + 1) AS value
   FROM pg_db_role_setting, unnest(setconfig) WITH ORDINALITY AS u (setting, place) WHERE setdatabase = (SELECT oid FROM o)),
 statements AS (
  SELECT 1 AS turn, 0 AS place, format('ALTER DATABASE %I OWNER TO %I', n.datname, pg_get_userbyid(o.datdba)) AS statement FROM o, n
  UNION ALL SELECT 2, 0, format('REVOKE ALL ON DATABASE %I FROM PUBLIC, %I', n.datname, pg_get_userbyid(o.datdba)) FROM o, n
  UNION ALL SELECT 3, 0, format('GRANT %s ON DATABASE %I TO %s%s', a.privilege_type, n.datname,
      CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM o, n, aclexplode(coalesce(o.datacl, acldefault('d', o.datdba))) a
  UNION ALL SELECT 4, s.place, format('%s SET %s TO %s',
      CASE WHEN s.setrole = 0 THEN format('ALTER DATABASE %I', n.datname) ELSE format('ALTER ROLE %I IN DATABASE %I', pg_get_userbyid(s.setrole), n.datname) END,
      (SELECT string_agg(quote_ident(part), '.' ORDER BY at) FROM unnest(string_to_array(s.name, '.')) WITH ORDINALITY AS p (part, at)),
      CASE WHEN lower(s.name) IN (${lists}) THEN (SELECT coalesce(string_agg(quote_literal(coalesce(replace(m[1], '""', '"'), btrim(m[2]))), ', '), '''''')
          FROM regexp_matches(s.value, ${literal(list)}, 'g') m WHERE m[1] IS NOT NULL OR btrim(m[2]) <> '')
        ELSE quote_literal(s.value) END)
    FROM s, n
  UNION ALL SELECT 5, 0, format('ALTER DATABASE %I CONNECTION LIMIT %s', n.datname, o.datconnlimit) FROM o, n
  -- Last: with the mark goes the way back.
  UNION ALL SELECT 6, 0, format('COMMENT ON DATABASE %I IS %L', n.datname, nullif(regexp_replace(o.words, ${keptPattern}, ''), '')) FROM o, n)
SELECT statement FROM statements ORDER BY turn, place
\\gexec
`
}

/** Prints the OID while the old database is kept. */
export const identifyKeptSql = (n: SwapNames): string =>
  `SET search_path = pg_catalog;\nSELECT oid FROM pg_database WHERE ${keptOld(n)};\n`

export const keptName = (token: string): string => `holdfast_old_${token}`

/** Dropped only as who it was. One that somebody renamed, or whose comment they changed, is theirs. */
export function dropKeptSql(name: string, oid: string): string {
  const token = name.replace(/^holdfast_old_/, '')
  return `SET search_path = pg_catalog;
SELECT format('DROP DATABASE %I', datname) FROM pg_database WHERE oid = ${oid} AND datname = ${literal(name)} AND ${marked(token)} \\gexec
`
}
