/**
 * Replacing the content of a live SQLite file by the online backup API: one transaction of SQLite's own, so that whoever
 * is killed in the middle leaves the old content (its journal is rolled back) or the new one. While nobody says that it is
 * done, the new content carries a number in its application_id that only this restore knows.
 */
import { createHash } from 'node:crypto'
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../../model/errors.ts'
import type { Command, ExistingTarget, Probe, RestoreTarget, Step, Swap } from '../engine.ts'
import type { SqliteConnection } from './connection.ts'
import { explain } from './explain.ts'
import { factsSql } from './facts.ts'
import { readOnlyShell } from './shell.ts'

export const existingFacts = z.object({
  /** Real path. */
  path: z.string(),
  /** `device:inode`. */
  inode: z.string(),
  journalMode: z.string(),
  pageSize: z.int(),
  applicationId: z.int(),
})
type ExistingFacts = z.infer<typeof existingFacts>

const ok = (exits: number[] | undefined) => exits?.every(exit => exit === 0) ?? false

export const inodeOf = (path: string): Command => ({
  stages: [{ argv: ['stat', '-L', '--printf=%d:%i|%s|%F', '--', path] }],
})

export function existing(
  _settings: SqliteConnection,
  _connection: string,
  database: string,
): Probe<ExistingTarget | undefined> {
  return {
    commands: {
      real: { stages: [{ argv: ['realpath', '-e', '-z', '--', database] }] },
      stat: inodeOf(database),
      facts: readOnlyShell(database, factsSql, { safe: true }),
    },
    read(outputs) {
      if (!ok(outputs.stat?.exits) || !ok(outputs.real?.exits)) return undefined
      const [inode = '', bytes, kind] = (outputs.stat?.stdout ?? '').split('|')
      if (!kind?.startsWith('regular')) {
        throw new HoldfastError('restore.swap-refused', `${database} is a ${kind}, not a SQLite file.`)
      }
      const result = outputs.facts
      if (result === undefined || !ok(result.exits)) {
        const step = { title: `reading the SQLite database ${database} that is to be replaced` }
        const reason = result && explain(result, step)
        throw new HoldfastError(
          reason?.code ?? 'tool.failed',
          reason?.message ?? `${step.title}: sqlite3 failed. ${result?.stderrTail ?? ''}`,
          {
            hint: 'A damaged file cannot be replaced in place: move it away, with its -wal and -journal, and restore under its name.',
          },
        )
      }
      const path = (outputs.real?.stdout ?? '').replace(/\0$/, '')
      const facts = existingFacts.parse({ ...JSON.parse(result.stdout), path, inode })
      return {
        identity: `sqlite:${inode}:${path}`,
        words: `The file ${path} (device and inode ${inode}, ${Math.ceil(Number(bytes) / 1e6)} MB)`,
        sizeBytes: Number(bytes),
        facts,
      }
    },
  }
}

/** Differs from the application_id before and after: whoever has it is our copy, not handed over yet. */
export function markOf(token: string, before: number, after: number): number {
  const number = createHash('sha256').update(`holdfast ${token}`).digest().readUInt32BE() & 0x7fffffff
  return [number, number ^ 1, number ^ 2].find(one => one !== before && one !== after) ?? number
}

export const keptPath = (path: string, token: string): string =>
  join(dirname(path), `${Array.from(basename(path)).slice(0, 60).join('')}.holdfast-old-${token}`)

/** In a dot-command, double quotes are read with backslashes. */
const quoted = (path: string): string => `"${path.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
/** Never makes the file: a copy that is gone would be restored as an empty database. */
const writable = (path: string): string => `file:${path.split('/').map(encodeURIComponent).join('/')}?mode=rw`

const busyMilliseconds = 30_000

/** A script on the live file; its environment names the paths that `.shell` needs. */
const script = (path: string, input: string, env: Record<string, string> = {}): Command => ({
  stages: [
    {
      argv: [
        'sqlite3',
        '-init',
        '/dev/null',
        '-batch',
        '-bail',
        '-cmd',
        `.timeout ${busyMilliseconds}`,
        writable(path),
      ],
      env: { HOLDFAST_TARGET: path, ...env },
    },
  ],
  input,
})

/** A text that is no JSON ends the script (-bail); explain.ts knows what it means. */
const assert = (condition: string) => `SELECT CASE WHEN ${condition} THEN 1 ELSE json('another') END;\n`

/** With the file open: the path still leads to the inode of the plan, which the open descriptor then stays on. */
const sameFile = (facts: ExistingFacts) => `.shell rm -f holdfast-identity
.shell stat -L -c %d:%i -- '"$HOLDFAST_TARGET"' > holdfast-identity
${assert(`coalesce(trim(CAST(readfile('holdfast-identity') AS TEXT), char(10)), '') = '${facts.inode}'`)}`

const carries = (mark: number) => `(SELECT application_id FROM pragma_application_id) = ${mark}`

/**
 * Keeps the old content aside and replaces it, with nobody writing in between. In rollback mode the lock is held from the
 * first moment to the last. A write-ahead log gives no such lock: another connection keeps writers out until the copy is
 * whole, and lets go the instant before the restore takes its own lock.
 */
function exchangeScript(facts: ExistingFacts, temporary: string, part: string, mark: number): string {
  // Run twice, it would keep the new content over the old.
  const theOldOne = `${sameFile(facts)}${assert(`NOT ${carries(mark)}`)}`
  const keep = `.shell rm -f -- '"$HOLDFAST_PART"' '"$HOLDFAST_PART-journal"'
.shell install -m 0600 -T -- /dev/null '"$HOLDFAST_PART"'
.backup ${quoted(part)}
`
  const kept = `.shell rm -f holdfast-kept
.shell mv -f -T -- '"$HOLDFAST_PART"' '"$HOLDFAST_KEPT"' && sync -- '"$HOLDFAST_KEPT"' '"$HOLDFAST_DIRECTORY"' && echo > holdfast-kept
SELECT CASE WHEN readfile('holdfast-kept') IS NOT NULL THEN 1 ELSE abs(-9223372036854775808) END;
`
  if (facts.journalMode !== 'wal') {
    return `PRAGMA locking_mode = EXCLUSIVE;
BEGIN EXCLUSIVE;
COMMIT;
${theOldOne}${keep}${kept}.restore ${quoted(writable(temporary))}
`
  }
  return `.connection 1
.open ${quoted(writable(facts.path))}
.timeout ${busyMilliseconds}
BEGIN IMMEDIATE;
.connection 0
BEGIN;
SELECT count(*) FROM sqlite_schema;
${theOldOne}${keep}ROLLBACK;
${kept}.connection 1
COMMIT;
.connection 0
.restore ${quoted(writable(temporary))}
`
}

const step = (id: string, title: string, run: Command, done?: Command): Step => ({
  id,
  title,
  run,
  output: { to: 'none' },
  resume: 'restart',
  writesTo: 'target',
  ...(done ? { done } : {}),
})

export function swapOf(
  target: RestoreTarget,
  existing: ExistingTarget,
  temporary: string,
  /** Of the restored content. */
  applicationId: number,
): { plan: Swap; undo: Command; destroys: string[] } {
  const facts = existingFacts.parse(existing.facts)
  const { path } = facts
  const mark = markOf(target.token, facts.applicationId, applicationId)
  const kept = keptPath(path, target.token)
  const part = `${kept}.part`
  // Not read-only: whoever was killed may have left a journal that must be rolled back before anything can be said.
  const marked = (yes: boolean) => script(path, assert(`${carries(mark)} IS ${yes ? 'TRUE' : 'FALSE'}`))
  return {
    destroys: [
      `${existing.words}: its content is replaced while it stays in place; its owner, mode and journal mode stay as they are. Programs that have it open see the new content at once.`,
      `The old content is kept in ${kept} for the grace period; then that file is removed.`,
    ],
    undo: { stages: [{ argv: ['rm', '-f', '--', part, `${part}-journal`] }] },
    plan: {
      prepare: [
        step('mark', 'mark the copy', {
          stages: [{ argv: ['sqlite3', '-init', '/dev/null', '-batch', '-bail', '-safe', temporary] }],
          // The header says WAL where the copy had it: the live file keeps its own journal mode.
          input: `PRAGMA journal_mode = DELETE;\nPRAGMA application_id = ${mark};\n`,
        }),
      ],
      exchange: step(
        'exchange',
        `replace the content of ${basename(path)}, keep the old one`,
        script(path, exchangeScript(facts, temporary, part, mark), {
          HOLDFAST_PART: part,
          HOLDFAST_KEPT: kept,
          HOLDFAST_DIRECTORY: dirname(path),
        }),
        marked(true),
      ),
      open: step(
        'open',
        'original application_id',
        script(
          path,
          `BEGIN IMMEDIATE;\n${sameFile(facts)}${assert(carries(mark))}PRAGMA application_id = ${applicationId};\nCOMMIT;\n`,
        ),
        marked(false),
      ),
      rollBack: step(
        'roll-back',
        `bring the old content of ${basename(path)} back`,
        script(
          path,
          `BEGIN IMMEDIATE;\n${sameFile(facts)}${assert(carries(mark))}ROLLBACK;\n.restore ${quoted(writable(kept))}\n`,
        ),
        marked(false),
      ),
      kept: {
        name: kept,
        identify: { stages: [{ argv: ['stat', '--printf=%d:%i', '--', kept] }] },
        look: `sqlite3 -readonly ${shown(kept)}`,
        goBack: `sqlite3 ${shown(path)} ${shown(`.restore ${quoted(kept)}`)}`,
      },
    },
  }
}

const shown = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`

/** Only that inode under that name, in its directory. */
export function dropKept(
  _settings: SqliteConnection,
  _connection: string,
  kept: { name: string; identity: string },
): Command {
  const inode = /^\d+:(\d+)$/.exec(kept.identity)?.[1]
  if (inode === undefined) throw new HoldfastError('internal', `"${kept.identity}" is no device and inode.`)
  const name = basename(kept.name).replace(/[\\*?[\]]/g, '\\$&')
  return {
    stages: [
      { argv: ['find', dirname(kept.name), '-maxdepth', '1', '-name', name, '-inum', inode, '-delete'] },
    ],
  }
}
