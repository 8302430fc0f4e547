/** What a drill asks of a restored PostgreSQL: the operator's queries, rows of every table, and amcheck. */
import type { Manifest } from '../../model/manifest.ts'
import type { CheckResult } from '../../model/types.ts'
import type { CommandResult, Examination, Examined, Probe, RestoreTarget } from '../engine.ts'
import { answersIn, expectedRows, markLine, queryChecks, rowsCheck, rowsIn } from '../examining.ts'
import { canaryIn, readCanarySql } from './canary.ts'
import { literal, psql } from './client.ts'
import type { PostgresqlConnection } from './connection.ts'
import { countedTables, factsOf } from './facts.ts'
import { temporaryName } from './restore.ts'

/** Each statement goes to the server as it is (\gexec): what psql itself would read in it, it does not see. */
const said = (token: string, what: string, statement: string): string =>
  `\\echo ${markLine(token, what)}\n${statement}\n`

const rowsSql = `SELECT format('SELECT json_build_object(''table'', %L, ''rows'', count(*)) FROM ONLY %I.%I', n.nspname || '.' || c.relname, n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE ${countedTables}
  ORDER BY c.relpages DESC, c.oid LIMIT 1000 \\gexec`

/** In one session and read-only; ends at the first error. */
export function examineSql(
  { queries, thorough, canary }: Examination,
  { connection }: Manifest,
  token: string,
): string {
  return [
    'SET default_transaction_read_only = on;\n',
    canary ? said(token, 'canary', readCanarySql(connection)) : '',
    ...queries.map(({ sql }, index) => said(token, `query ${index}`, `SELECT ${literal(sql)} \\gexec`)),
    thorough ? said(token, 'rows', rowsSql) : '',
    said(token, 'asked', ''),
  ].join('')
}

/**
 * Every table and B-tree of the copy, by the extension, which is made there and goes with it. Only a superuser may; before 14
 * it knows no tables.
 */
const amcheckSql = (token: string): string => `SET default_transaction_read_only = off;
SET search_path = pg_catalog;
SELECT current_setting('server_version_num')::int >= 140000
  AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
  AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck') AS may \\gset
\\if :may
CREATE SCHEMA IF NOT EXISTS holdfast_drill;
CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA holdfast_drill;
SELECT quote_ident(n.nspname) AS amcheck FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck' \\gset
\\echo ${markLine(token, 'amcheck')}
WITH heaps AS MATERIALIZED (
  SELECT c.oid FROM pg_class c JOIN pg_am a ON a.oid = c.relam
  WHERE c.relkind IN ('r', 'm', 't') AND a.amname = 'heap' AND c.relpersistence <> 't'
) SELECT h.oid::regclass::text || ': ' || v.msg FROM heaps h CROSS JOIN LATERAL :amcheck.verify_heapam(h.oid::regclass) v LIMIT 20;
\\o /dev/null
SELECT :amcheck.bt_index_check(i.indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
  WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' AND i.indisready AND i.indisvalid;
\\o
\\endif
\\echo ${markLine(token, 'checked')}
`

export function examine(
  settings: PostgresqlConnection,
  target: RestoreTarget,
  manifest: Manifest,
  examination: Examination,
): Probe<Examined> {
  const { connection, token } = target
  const database = temporaryName(token)
  const sql = examineSql(examination, manifest, token) + (examination.thorough ? amcheckSql(token) : '')
  return {
    commands: { examine: psql(connection, settings, database, `${sql}\\echo ${markLine(token, 'end')}\n`) },
    read({ examine: result = nothing }) {
      const examined = readExamined(examination, target, manifest, result)
      if (!examination.thorough) return examined
      return { ...examined, checks: [...examined.checks, structure(token, result)] }
    },
  }
}

const nothing: CommandResult = { exits: [], stdout: '', stderrTail: '' }

/** What `examineSql` was answered. */
export function readExamined(
  examination: Examination,
  { token, recovery }: Pick<RestoreTarget, 'token' | 'recovery'>,
  manifest: Manifest,
  result: CommandResult,
): Examined {
  const answers = answersIn(token, result)
  const counted = answers.has('rows')
  const { rows, check } = expectedRows(
    counted ? rowsIn(answers.get('rows')) : [],
    // What was deleted, truncated or dropped after the backup is no loss.
    recovery === undefined ? factsOf(manifest).database.rowEstimates : [],
  )
  return {
    checks: [
      ...queryChecks(examination, answers, result.stderrTail),
      ...(examination.thorough ? [rowsCheck(rows, counted, result.stderrTail)] : []),
      ...(examination.thorough && counted ? [check] : []),
    ],
    rows,
    canary: canaryIn(answers.get('canary')),
  }
}

function structure(token: string, result: CommandResult): CheckResult {
  const base = { id: 'examine.amcheck', title: 'amcheck' }
  const answers = answersIn(token, result)
  const found = answers.get('amcheck')
  if (!answers.has('rows')) return { ...base, answer: 'warn', detail: 'Not asked: one before it failed.' }
  if (answers.has('checked') && found === undefined) {
    return {
      ...base,
      answer: 'warn',
      detail:
        'Tables and indexes were not looked into: that takes a superuser, the extension amcheck, and PostgreSQL 14.',
    }
  }
  if (answers.has('checked') && found === '') {
    return { ...base, answer: 'pass', detail: 'Every table and B-tree index of the copy is whole.' }
  }
  const words = `${found ?? ''}\n${result.stderrTail}`.trim().slice(0, 600)
  return { ...base, answer: 'fail', code: 'drill.check-failed', detail: `amcheck: ${words}` }
}
