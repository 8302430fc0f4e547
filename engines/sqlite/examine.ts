/** What a drill asks of a restored SQLite file: the operator's queries, and rows of every table. Its proofs check its structure. */
import type { Manifest } from '../../model/manifest.ts'
import type { Command, CommandResult, Examination, Examined, Probe, RestoreTarget, Stage } from '../engine.ts'
import { answersIn, expectedRows, markLine, queryChecks, rowsCheck, rowsIn } from '../examining.ts'
import { checkedToken } from '../names.ts'
import { canaryIn, readCanarySql } from './canary.ts'
import { immutableUri, temporaryPath } from './connection.ts'

/** Prints a statement per table, which the next program runs. */
const rowsSql = `SELECT 'SELECT json_object(''table'', ' || quote(name) || ', ''rows'', (SELECT count(*) FROM "' || replace(name, '"', '""') || '"));'
  FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_' AND sql NOT LIKE 'CREATE VIRTUAL%'
  ORDER BY name LIMIT 1000;
`

export function examine(
  target: RestoreTarget,
  manifest: Manifest,
  { queries, thorough, canary }: Examination,
): Probe<Examined> {
  const { token } = target
  const copy = immutableUri(temporaryPath(target.database, checkedToken(token)))
  const shell: Stage = { argv: ['sqlite3', '-init', '/dev/null', '-batch', '-bail', '-safe', copy] }
  const asked = queries.map(
    ({ sql }, index) => `.print ${markLine(token, `query ${index}`)}\n${sql.trim()}\n;\n`,
  )
  const commands: Record<string, Command> = {
    ...(queries.length > 0
      ? { queries: { stages: [shell], input: `${asked.join('')}.print ${markLine(token, 'end')}\n` } }
      : {}),
    ...(thorough ? { rows: { stages: [shell, shell], input: rowsSql } } : {}),
    ...(canary ? { canary: { stages: [shell], input: readCanarySql(manifest.connection) } } : {}),
  }
  return {
    commands,
    read({ queries: said = nothing, rows: counted = nothing, canary: found = nothing }) {
      const ok = counted.exits.length > 0 && counted.exits.every(exit => exit === 0)
      const { rows, check } = expectedRows(ok ? rowsIn(counted.stdout) : [], [])
      return {
        canary: canaryIn(found.stdout),
        checks: [
          ...queryChecks({ queries }, answersIn(token, said), said.stderrTail),
          ...(thorough ? [rowsCheck(rows, ok, counted.stderrTail)] : []),
          ...(thorough && ok ? [check] : []),
        ],
        rows,
      }
    },
  }
}

const nothing: CommandResult = { exits: [], stdout: '', stderrTail: '' }
