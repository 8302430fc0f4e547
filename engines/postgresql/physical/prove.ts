/** Questions around a physical restore: may it be written there, and does the copy start and hold what was backed up? */
import { dirname } from 'node:path'
import { z } from 'zod'
import { isErrorCode } from '../../../model/errors.ts'
import type { Manifest } from '../../../model/manifest.ts'
import type { CheckResult } from '../../../model/types.ts'
import type {
  Command,
  CommandResult,
  Examination,
  Examined,
  ExistingTarget,
  Probe,
  RestoreTarget,
} from '../../engine.ts'
import { markLine } from '../../examining.ts'
import { explainSignal, toolError } from '../../explain.ts'
import { lastWords } from '../../tail.ts'
import type { PostgresqlConnection } from '../connection.ts'
import { examineSql, readExamined } from '../examine.ts'
import { explain } from '../explain.ts'
import { countsSql, factsOf, objectKinds, readCounts } from '../facts.ts'
import { byPrograms } from './container.ts'
import { existingFacts, lookCommand, replaceable } from './existing.ts'
import { clusterOf } from './facts.ts'
import { asOwner, isolatedServer, type ProgramFacts, script, shellText } from './programs.ts'
import { directoriesOf, placesOf } from './restore.ts'

/** Arguments: the directory; user and group that write it, else those of postgres. Three lines: entries of the target (`-`: not there), whether its parent can be written, free KiB there. */
const lookAtTarget = `parent=$(dirname -- "$1") user=\${2:-$(id -u postgres 2>/dev/null)} group=\${3:-$(id -g postgres 2>/dev/null)}
if [ -e "$1" ]; then ls -A -- "$1" | wc -l; else echo -; fi
own() { if [ "$(id -u)" = 0 ]; then setpriv --reuid="$user" --regid="$group" --init-groups "$@"; else "$@"; fi; }
if [ -d "$parent" ] && own test -w "$parent"; then echo yes; else echo no; fi
df -Pk -- "$parent" 2>/dev/null | awk 'NR == 2 { print $4 }'`

/** Gets the first log file as PostgreSQL will. Prints how the client ended, after what it said, and whose file it is. */
const tryFetch = shellText('try-fetch')

const ownerOf = ({ facts }: ExistingTarget): string[] => {
  const { owner } = existingFacts.parse(facts)
  return [String(owner.user), String(owner.group)]
}

export function targetChecks(
  settings: PostgresqlConnection,
  target: RestoreTarget,
  manifest: Manifest,
): Probe<CheckResult[]> {
  const { final } = placesOf(target)
  const { replaces, recovery } = target
  return {
    commands: {
      target: script(lookAtTarget, final, ...(replaces ? ownerOf(replaces) : [])),
      ...(replaces ? { existing: lookCommand(settings, final) } : {}),
      ...(recovery ? { fetch: script(tryFetch, recovery.walConfig, recovery.firstFile) } : {}),
    },
    read({ target: said, existing, fetch }) {
      const [entries = '', writable = '', free = ''] = (said?.stdout ?? '').split('\n')
      const bytesOf = ({ artifacts }: Manifest) =>
        artifacts.reduce((sum, artifact) => sum + artifact.toolBytes, 0)
      const [full, ...others] = [...(target.parents ?? []), manifest]
      // A chain lies there side by side, and what it is put together to beside it.
      const bytes = others.reduce(
        (sum, one) => sum + bytesOf(one),
        bytesOf(full ?? manifest) * (others.length > 0 ? 2 : 1),
      )
      const check = (
        id: string,
        title: string,
        ok: boolean,
        good: string,
        bad: Pick<CheckResult, 'code' | 'detail' | 'hint'>,
      ): CheckResult =>
        ok ? { id, title, answer: 'pass', detail: good } : { id, title, answer: 'fail', ...bad }
      const freeBytes = Number(free) * 1024
      return [
        ...(recovery ? [fetched(fetch, recovery.firstFile, factsOf(manifest).server.systemIdentifier)] : []),
        ...(replaces
          ? replaceable(settings, existing, final, { ...target, replaces })
          : [
              check(
                'target.exists',
                'Target is free',
                entries.trim() === '-' || entries.trim() === '0',
                `There is nothing in ${final}.`,
                {
                  code: 'restore.target-exists',
                  detail: `${final} exists already and is not an empty directory.`,
                  hint: 'Name a directory that is not there, or ask for it to be replaced: --overwrite-existing.',
                },
              ),
            ]),
        check(
          'target.writable',
          'Target can be made',
          writable === 'yes',
          `${dirname(final)} can be written.`,
          {
            code: 'restore.mismatch',
            detail: `${dirname(final)} is not there, or its owner is another one than the user that the tools run as.`,
            hint: 'Make it for that user, or restore elsewhere.',
          },
        ),
        check(
          'target.room',
          'Target has room',
          freeBytes >= bytes,
          `${Math.floor(freeBytes / 1e6)} MB free, ${Math.ceil(bytes / 1e6)} MB needed.`,
          {
            code: 'restore.target-full',
            detail: `${dirname(final)} has ${Math.floor(freeBytes / 1e6)} MB free; the copy has ${Math.ceil(bytes / 1e6)} MB.`,
          },
        ),
      ]
    },
  }
}

/** 1 is an answer, too: the archive has no such file and none after it, and the base backup has it. */
function fetched(result: CommandResult | undefined, file: string, systemIdentifier: string): CheckResult {
  const said = result?.stdout ?? ''
  const exit = /^exit (\d+)$/m.exec(said)?.[1]
  const base = { id: 'target.log', title: 'The log can be fetched there' }
  const server = /^server (\d+)$/m.exec(said)?.[1]
  if (server !== undefined && systemIdentifier !== '' && server !== systemIdentifier) {
    const detail = `The archive of that configuration is of server ${server}; backed up was ${systemIdentifier}.`
    return {
      ...base,
      answer: 'fail',
      code: 'wal.foreign',
      detail,
      hint: 'Name another one: --wal-config PATH.',
    }
  }
  if (exit === '0' || exit === '1') {
    const detail =
      exit === '0' ? `${file} was fetched, and is whole.` : `The archive does not have ${file} yet.`
    return { ...base, answer: 'pass', detail }
  }
  if (exit === '127') {
    return {
      ...base,
      answer: 'fail',
      code: 'host.tool-missing',
      detail: '`holdfast` is not on the PATH of the tools of this host; PostgreSQL fetches its log by it.',
      hint: 'Install it there (docs/log-archiving.md), or recover on another host.',
    }
  }
  const [, code = '', detail = ''] = /^error ([a-z]+\.[a-z-]+): (.*)$/m.exec(said) ?? []
  const hint = /^hint: (.*)$/m.exec(said)?.[1]
  return {
    ...base,
    answer: 'fail',
    code: isErrorCode(code) ? code : 'pitr.failed',
    detail:
      detail || `Fetching ${file} ended with ${exit ?? 'nothing'}: ${lastWords(result?.stderrTail || said)}`,
    ...(hint === undefined ? {} : { hint }),
  }
}

/**
 * Starts the copy in the foreground of this very process group, so that whoever ends the group ends it, too; asks; stops it. No
 * TCP, a socket in a directory of its own, nobody's configuration but ours, no workers that would reach out.
 * A server that is told to stop while it replays the WAL of its backup never starts again ("WAL ends before end of online
 * backup"): what it begins from is kept, and put back before another try.
 * Arguments: programs, data directory, bootstrap user, database, max_prepared_transactions, socket directory, kept files, and
 * whether pg_amcheck is run.
 */
const startAndAsk = isolatedServer + shellText('ask')

const clusterAnswer = z.object({ databases: z.array(z.string()), systemIdentifier: z.string() })

const proofSql = `SET search_path = pg_catalog;
${countsSql}SELECT json_build_object(
  'databases', (SELECT json_agg(datname ORDER BY datname) FROM pg_database),
  'systemIdentifier', (SELECT system_identifier::text FROM pg_control_system())
);
`

type Programs = ProgramFacts & { directory: string }
type Place = 'temporary' | 'swapped'

function asking(
  target: RestoreTarget,
  manifest: Manifest,
  programs: Programs,
  sql: string,
  amcheck: 'yes' | 'no',
  place: Place = 'temporary',
): Command {
  const places = placesOf(target)
  const { temporary, final, mark, socket } = places
  const data = place === 'swapped' ? final : temporary
  const { server } = factsOf(manifest)
  const run = script(
    startAndAsk,
    ...[programs.directory, data, clusterOf(manifest).bootstrapUser, manifest.server.database],
    ...[String(server.maxPreparedTransactions), socket, `${data}/${mark}`, amcheck],
  )
  return byPrograms(programs, mark, directoriesOf(manifest, places), { ...run, input: sql })
}

export function proofs(
  target: RestoreTarget,
  manifest: Manifest,
  programs: Programs,
  place: Place = 'temporary',
): Probe<CheckResult[]> {
  const { recovery } = target
  if (recovery && recovery.action !== 'promote') {
    const { temporary, final } = placesOf(target)
    return staysInRecovery(place === 'swapped' ? final : temporary, manifest, programs)
  }
  return {
    // A rename damages no page, and the server is down meanwhile.
    commands: {
      prove: asking(target, manifest, programs, proofSql, place === 'swapped' ? 'no' : 'yes', place),
    },
    read: ({ prove }) => verdict(prove, manifest, place, recovery !== undefined),
  }
}

/** Started once more, as it was for its proofs: those have run pg_amcheck. */
export function examine(
  target: RestoreTarget,
  manifest: Manifest,
  programs: Programs,
  examination: Examination,
): Probe<Examined> {
  const sql = `${examineSql(examination, manifest, target.token)}\\echo ${markLine(target.token, 'end')}\n`
  return {
    commands: { examine: asking(target, manifest, programs, sql, 'no') },
    read: ({ examine: result }) =>
      readExamined(examination, target, manifest, result ?? { exits: [], stdout: '', stderrTail: '' }),
  }
}

/** A copy that is to go no further until somebody says so is not started a second time: the log has more for it. */
function staysInRecovery(directory: string, manifest: Manifest, programs: Programs): Probe<CheckResult[]> {
  const run: Command = { stages: [{ argv: [`${programs.directory}/pg_controldata`, '-D', directory] }] }
  return {
    commands: { prove: asOwner(programs, run) },
    read({ prove: said }) {
      const { stdout = '' } = said ?? {}
      return [
        identity(/^Database system identifier: +(\d+)$/m.exec(stdout)?.[1] ?? 'nobody', manifest),
        check(
          'proof.stopped',
          'Stopped at the target',
          /^Database cluster state: +shut down in recovery$/m.test(stdout),
          /^Minimum recovery ending location: +(\S+)$/m.exec(stdout)?.[1] ?? '',
          'pg_controldata does not say that the copy was shut down in recovery.',
        ),
        {
          id: 'proof.objects',
          title: 'What is in it',
          answer: 'warn',
          detail: 'The copy was not asked: it stays in recovery.',
          hint: 'Start it, and look; `holdfast pitr … --action promote` makes one that is proven.',
        },
      ]
    },
  }
}

/** `recovered`: what was made and dropped after the backup is no loss. */
function verdict(
  result: CommandResult | undefined,
  manifest: Manifest,
  place: Place,
  recovered: boolean,
): CheckResult[] {
  const step = { title: 'Starting the copy and asking it' }
  const killed = result && explainSignal(result, step)
  if (killed) throw killed
  if (!result?.exits.every(exit => exit === 0)) {
    if (result && /holdfast: the copy does not start/.test(result.stderrTail)) {
      throw toolError('restore.proof-failed', result, step, 'the copy does not start')
    }
    throw (
      (result && explain(result, step)) ??
      toolError(
        'restore.proof-failed',
        result ?? { exits: [], stdout: '', stderrTail: '' },
        step,
        'it failed',
      )
    )
  }
  const [asked = '', rest = ''] = result.stdout.split(/^controldata$/m)
  const [answers = '', amcheck] = asked.split(/^amcheck$/m)
  const [counts = '', about = ''] = answers.trim().split('\n')
  const copy = clusterAnswer.parse(JSON.parse(about))
  return [
    identity(copy.systemIdentifier, manifest),
    databases(copy.databases, manifest, recovered),
    ...objects(counts, manifest, recovered),
    ...(place === 'temporary' ? [structure(amcheck)] : []),
    stopped(rest),
  ]
}

const check = (id: string, title: string, ok: boolean, good: string, bad: string): CheckResult =>
  ok
    ? { id, title, answer: 'pass', detail: good }
    : { id, title, answer: 'fail', code: 'restore.proof-failed', detail: bad }

function identity(copy: string, manifest: Manifest): CheckResult {
  const { systemIdentifier } = factsOf(manifest).server
  return check(
    'proof.identity',
    'System identifier',
    systemIdentifier === '' || systemIdentifier === copy,
    copy,
    `The copy says it is ${copy}; backed up was ${systemIdentifier}.`,
  )
}

/** The list is older than the end of the backup: one that was made or dropped while it ran is no loss. */
function databases(copy: readonly string[], manifest: Manifest, recovered: boolean): CheckResult {
  const lost = clusterOf(manifest).databases.filter(name => !copy.includes(name))
  const base = { id: 'proof.databases', title: 'Databases' }
  if (lost.length === 0) return { ...base, answer: 'pass', detail: copy.join(', ') }
  return lost.includes(manifest.server.database) && !recovered
    ? check(base.id, base.title, false, '', `The database ${manifest.server.database} is not in the copy.`)
    : {
        ...base,
        answer: 'warn',
        detail: `Not in the copy: ${lost.join(', ')} (dropped ${recovered ? 'after the base backup' : 'while the backup ran'}?).`,
      }
}

function objects(counts: string, manifest: Manifest, recovered: boolean): CheckResult[] {
  const before = factsOf(manifest).database.counts
  const after = readCounts(counts)
  const base = { id: 'proof.objects', title: `Objects of ${manifest.server.database}` }
  const lost = objectKinds.filter(kind => before[kind] > 0 && after[kind] === 0)
  const differing = objectKinds.filter(kind => before[kind] !== after[kind])
  const words = (kinds: readonly (typeof objectKinds)[number][]) =>
    kinds.map(kind => `${kind} ${before[kind]} → ${after[kind]}`).join(', ')
  if (lost.length > 0 && !recovered) return [check(base.id, base.title, false, '', `Lost: ${words(lost)}.`)]
  if (differing.length > 0) {
    return [
      {
        ...base,
        answer: 'warn',
        detail: `Counted just before the backup, and in the copy: ${words(differing)}.`,
      },
    ]
  }
  return [{ ...base, answer: 'pass', detail: `${after.tables} tables, ${after.indexes} indexes` }]
}

function structure(said: string | undefined): CheckResult {
  const base = { id: 'proof.amcheck', title: 'pg_amcheck' }
  const [, exit, words = ''] = /exit (\d+)\n?([\s\S]*)/.exec(said ?? '') ?? []
  const isMissing = /no relations to check|amcheck is not installed/.test(words)
  if (exit === undefined || (exit !== '0' && exit !== '2' && isMissing)) {
    return {
      ...base,
      answer: 'warn',
      detail:
        'Tables and indexes were not looked into: the extension amcheck is in no database of the backup.',
      hint: 'CREATE EXTENSION amcheck in the databases that are backed up.',
    }
  }
  return check(
    base.id,
    base.title,
    exit === '0',
    'Every table and index of the databases that have amcheck is whole.',
    `pg_amcheck says: ${words.trim().slice(-600)}`,
  )
}

const stopped = (controlData: string): CheckResult =>
  check(
    'proof.stopped',
    'Stopped in order',
    /^Database cluster state: +shut down$/m.test(controlData),
    /^Latest checkpoint location: +(\S+)$/m.exec(controlData)?.[1] ?? '',
    'pg_controldata does not say that the copy was shut down in order.',
  )
