/** Questions around a SQLite restore: may the target be written, and is the copy what was backed up? */
import { dirname } from 'node:path'
import { isForeignId } from '../../model/foreign.ts'
import type { Manifest } from '../../model/manifest.ts'
import type { CheckResult } from '../../model/types.ts'
import type { Command, CommandResult, Probe, RestoreTarget } from '../engine.ts'
import { checkedToken } from '../names.ts'
import { immutableUri, pathProblem, replayed, temporaryPath } from './connection.ts'
import { explain } from './explain.ts'
import { factsSql, restoreFactsOf, sqliteFacts } from './facts.ts'
import { readOnlyShell } from './shell.ts'
import { existingFacts, inodeOf, markOf } from './swap.ts'

const ok = (result: CommandResult | undefined): boolean => result?.exits.every(exit => exit === 0) ?? false

export function targetChecks(target: RestoreTarget, manifest: Manifest): Probe<CheckResult[]> {
  const replaces = target.replaces && existingFacts.parse(target.replaces.facts)
  const path = replaces?.path ?? target.database
  const problem = pathProblem(path)
  if (problem !== undefined) {
    return {
      commands: {},
      read: () => [
        {
          id: 'target.path',
          title: 'Target path',
          answer: 'fail',
          code: 'request.invalid',
          detail: `target.database: the path "${path}" ${problem}.`,
          hint: 'Give an absolute path.',
        },
      ],
    }
  }
  const directory = dirname(path)
  return {
    commands: {
      inode: inodeOf(path),
      // -e would follow a dangling symbolic link; -L sees the link itself, which blocks the name just as well.
      target: { stages: [{ argv: ['test', '-e', path, '-o', '-L', path] }] },
      ...Object.fromEntries(
        replayed(path).map((file, i) => [`left${i}`, { stages: [{ argv: ['test', '-s', file] as const }] }]),
      ),
      directory: {
        stages: [{ argv: ['test', '-d', directory, '-a', '-w', directory, '-a', '-x', directory] }],
      },
      free: { stages: [{ argv: ['df', '-P', '-B1', '--', directory] }] },
      sqlite3: { stages: [{ argv: ['sqlite3', '-version'] }] },
    },
    read(outputs) {
      const results: CheckResult[] = []
      const check = (id: string, title: string, problem: Omit<CheckResult, 'id' | 'title'> | string) =>
        results.push(
          typeof problem === 'string'
            ? { id, title, answer: 'pass', detail: problem }
            : { id, title, ...problem },
        )
      if (replaces) {
        results.push(...replaceable(outputs, replaces, manifest))
      } else {
        check(
          'target.exists',
          'Target is free',
          ok(outputs.target)
            ? { answer: 'fail', code: 'restore.target-exists', detail: `${path} exists already.` }
            : `${path} does not exist.`,
        )
        check('target.leftovers', 'Nothing of another database beside', leftovers(path, outputs))
      }
      check(
        'target.directory',
        'Directory can be written',
        ok(outputs.directory)
          ? directory
          : {
              answer: 'fail',
              code: 'restore.target-permission',
              detail: `${directory} is not a directory that this user may write.`,
              hint: 'Create the directory, give the user that tools run as write access, or remount what is read-only.',
            },
      )
      if (ok(outputs.directory))
        check(
          'target.space',
          'Space at the target',
          space(outputs.free, directory, manifest, target.replaces?.sizeBytes ?? 0),
        )
      check(
        'host.tools',
        'Tools',
        ok(outputs.sqlite3)
          ? `sqlite3 ${outputs.sqlite3?.stdout.split(' ')[0]}`
          : { answer: 'fail', code: 'host.tool-missing', detail: 'sqlite3 is not installed on this host.' },
      )
      return results
    },
  }
}

function leftovers(
  path: string,
  outputs: Record<string, CommandResult>,
): Omit<CheckResult, 'id' | 'title'> | string {
  const left = replayed(path).filter((_, i) => ok(outputs[`left${i}`]))
  if (left.length === 0) return 'No journal or write-ahead log of another database.'
  return {
    answer: 'fail',
    code: 'restore.target-exists',
    detail: `${left.join(', ')} is left of another database; SQLite would replay it into the restored one.`,
    hint: 'Move these files away once you are sure that they are not needed, or choose another name.',
  }
}

/** Is it still the file that the plan names, and can its content be replaced while it stays in place? */
function replaceable(
  outputs: Record<string, CommandResult>,
  planned: ReturnType<typeof existingFacts.parse>,
  manifest: Manifest,
): CheckResult[] {
  const { path } = planned
  const [inode, , kind] = (outputs.inode?.stdout ?? '').split('|')
  const same = { id: 'target.same', title: 'Target is the one to replace' }
  if (!ok(outputs.inode) || inode !== planned.inode || !kind?.startsWith('regular')) {
    return [
      {
        ...same,
        answer: 'fail',
        code: 'restore.target-changed',
        detail: `The plan replaces the content of ${path} (device and inode ${planned.inode}); ${ok(outputs.inode) ? `there is ${inode} now` : 'it is not there'}.`,
      },
    ]
  }
  const page = { id: 'target.page-size', title: 'Page size' }
  const pageSize = restoreFactsOf(manifest).pageSize ?? planned.pageSize
  const fits = planned.journalMode !== 'wal' || pageSize === planned.pageSize
  return [
    { ...same, answer: 'pass', detail: `device and inode ${inode}` },
    fits
      ? { ...page, answer: 'pass', detail: `${pageSize} bytes` }
      : {
          ...page,
          answer: 'fail',
          code: 'restore.swap-refused',
          detail: `${path} has a write-ahead log and pages of ${planned.pageSize} bytes; the backup has pages of ${pageSize}, which SQLite cannot put into it.`,
          hint: 'Set PRAGMA journal_mode = DELETE on the file while nobody has it open, or restore beside.',
        },
  ]
}

function space(
  free: CommandResult | undefined,
  directory: string,
  manifest: Manifest,
  replacedBytes: number,
): Omit<CheckResult, 'id' | 'title'> | string {
  const available = Number(/\n.*?\s(\d+)\s+\d+\s+(\d+)\s+\d+%/.exec(free?.stdout ?? '')?.[2] ?? Number.NaN)
  const facts = sqliteFacts.safeParse(manifest.facts)
  const copied = Math.max(
    manifest.artifacts[0]?.format === 'sqlite-file' ? (manifest.artifacts[0]?.toolBytes ?? 0) : 0,
    facts.success ? facts.data.pageSize * (facts.data.pageCount - facts.data.freePages) : 0,
  )
  // The old content is kept aside, and is in SQLite's journal while it is replaced.
  const needed = copied + 2 * replacedBytes
  if (Number.isNaN(available)) return 'The free space is not known.'
  if (available >= needed) return `${available} bytes free, about ${needed} needed.`
  return {
    answer: 'fail',
    code: 'restore.target-full',
    detail: `${directory} has ${available} bytes free; the restored database needs about ${needed}.`,
  }
}

/** Looks at the temporary copy, which nobody else touches; or, once it was swapped in, at the live file. */
export function proofs(
  target: RestoreTarget,
  manifest: Manifest,
  place: 'temporary' | 'swapped' = 'temporary',
): Probe<CheckResult[]> {
  // Of a foreign backup nobody knows what its schema was.
  const described = isForeignId(manifest.backupId) ? undefined : sqliteFacts.parse(manifest.facts)
  const ownId = restoreFactsOf(manifest).applicationId
  const replaces = target.replaces && existingFacts.parse(target.replaces.facts)
  const swapped = place === 'swapped' ? replaces : undefined
  const path = replaces?.path ?? target.database
  const copy = immutableUri(temporaryPath(path, checkedToken(target.token)))
  const shell = (input: string): Command =>
    swapped
      ? readOnlyShell(path, input, { safe: true })
      : { stages: [{ argv: ['sqlite3', '-init', '/dev/null', '-batch', '-bail', '-safe', copy] }], input }
  const applicationId = swapped ? markOf(target.token, swapped.applicationId, ownId) : ownId
  return {
    commands: {
      integrity: shell('PRAGMA integrity_check(20);\n'),
      foreignKeys: shell('SELECT count(*) FROM (SELECT 1 FROM pragma_foreign_key_check LIMIT 1000);\n'),
      facts: shell(factsSql),
    },
    read(outputs) {
      const results = [
        integrity(outputs.integrity),
        described ? shape(outputs.facts, { ...described, applicationId }) : readable(outputs.facts),
        foreignKeys(outputs.foreignKeys),
      ]
      if (!swapped) return results
      return results.map(one => ({ ...one, id: `${one.id}-swapped`, title: `${one.title}, in its place` }))
    },
  }
}

function integrity(result: CommandResult | undefined): CheckResult {
  const title = 'integrity_check'
  const said = `${result?.stdout ?? ''}${result?.stderrTail ?? ''}`.trim()
  if (ok(result) && said === 'ok') return { id: 'proof.integrity', title, answer: 'pass', detail: 'ok' }
  const reason = result && explain(result, { title })
  return {
    id: 'proof.integrity',
    title,
    answer: 'fail',
    code: 'restore.proof-failed',
    detail: `integrity_check of the restored copy: ${said.slice(0, 600) || reason?.message || 'no answer'}`,
  }
}

/** All that can be asked of a copy of which nothing is known: that its schema can be read, and what is in it. */
function readable(result: CommandResult | undefined): CheckResult {
  const base = { id: 'proof.schema', title: 'Schema; what it was is not known of a foreign backup' }
  const found = sqliteFacts
    .omit({ path: true, mode: true })
    .safeParse(ok(result) ? JSON.parse(result?.stdout ?? '') : null)
  if (!found.success) {
    return {
      ...base,
      answer: 'fail',
      code: 'restore.proof-failed',
      detail: `The restored copy cannot be read: ${result?.stderrTail.trim().slice(0, 600)}`,
    }
  }
  const kinds = ['tables', 'indexes', 'views', 'triggers'] as const
  const isEmpty = kinds.every(kind => found.data[kind] === 0)
  return {
    ...base,
    answer: isEmpty ? 'warn' : 'pass',
    detail: kinds.map(kind => `${found.data[kind]} ${kind}`).join(', '),
  }
}

function shape(
  result: CommandResult | undefined,
  expected: ReturnType<typeof sqliteFacts.parse>,
): CheckResult {
  const base = { id: 'proof.schema', title: 'Schema as at the backup' }
  if (result === undefined || !ok(result)) {
    return {
      ...base,
      answer: 'fail',
      code: 'restore.proof-failed',
      detail: `The restored copy cannot be read: ${result?.stderrTail.trim().slice(0, 600)}`,
    }
  }
  const found = sqliteFacts.omit({ path: true, mode: true }).parse(JSON.parse(result.stdout))
  const kinds = ['tables', 'indexes', 'views', 'triggers'] as const
  const gone = kinds.filter(kind => expected[kind] > 0 && found[kind] === 0)
  if (gone.length > 0) {
    return {
      ...base,
      answer: 'fail',
      code: 'restore.proof-failed',
      detail: `The restored copy has no ${gone.join(', no ')}; the database had ${gone.map(kind => expected[kind]).join(', ')}.`,
    }
  }
  const same = [...kinds, 'schemaDigest', 'userVersion', 'applicationId', 'encoding'] as const
  const differ = same.filter(key => expected[key] !== found[key])
  if (differ.length > 0) {
    // The facts are read just before the snapshot is taken: a schema change in between is no damage.
    return {
      ...base,
      answer: 'warn',
      detail: `Differs from what was seen just before the backup: ${differ.join(', ')}. The schema may have changed in between.`,
    }
  }
  return { ...base, answer: 'pass', detail: kinds.map(kind => `${found[kind]} ${kind}`).join(', ') }
}

/** Violations may have been in the original too: SQLite does not enforce foreign keys unless asked. */
function foreignKeys(result: CommandResult | undefined): CheckResult {
  const base = { id: 'proof.foreign-keys', title: 'Foreign keys' }
  const count = ok(result) ? Number(result?.stdout.trim()) : Number.NaN
  if (count === 0) return { ...base, answer: 'pass', detail: 'No violations.' }
  return {
    ...base,
    answer: 'warn',
    detail: Number.isNaN(count)
      ? `They could not be checked: ${result?.stderrTail.trim().slice(0, 300)}`
      : `${count >= 1000 ? '1,000 or more' : count} rows refer to rows that are not there; SQLite restores them as they were.`,
  }
}
