/** Incremental base backups (17 and newer): made against the backup_manifest of another one, which they need for ever. */
import { HoldfastError } from '../../../model/errors.ts'
import type { Manifest } from '../../../model/manifest.ts'
import type { CheckResult } from '../../../model/types.ts'
import type { Command, ServerFacts, Step } from '../../engine.ts'
import { factsOf, postgresqlFacts } from '../facts.ts'
import { majorOf } from '../probe.ts'
import { backupPositions, type ClusterFacts } from './facts.ts'
import { manifestName } from './manifest.ts'

/** A streamed one has its backup_manifest within the tar, where it would have to be read whole. */
export const mayBeParent = ({ artifacts, facts }: Manifest): boolean =>
  artifacts.some(({ name }) => name === manifestName) && backupPositions.safeParse(facts.positions).success

/** Throws `backup.parent`. */
export function expectParent(parent: Manifest | undefined, facts: ServerFacts): asserts parent is Manifest {
  const refused = (why: string) =>
    new HoldfastError('backup.parent', `An incremental backup cannot be made: ${why}.`)
  if (!parent || !mayBeParent(parent)) {
    throw refused('there is none whose backup_manifest lies by itself (format staged-tar)')
  }
  const now = postgresqlFacts.parse(facts.facts).server
  const then = factsOf(parent).server
  if (now.systemIdentifier !== then.systemIdentifier) {
    throw refused(
      `${parent.backupId} is of system ${then.systemIdentifier}, this server is ${now.systemIdentifier}`,
    )
  }
  if (majorOf(facts.version) !== majorOf(parent.server.version)) {
    throw refused(
      `${parent.backupId} is of PostgreSQL ${parent.server.version}, this server is ${facts.version}`,
    )
  }
}

const kept = 'parent_manifest'
const isKept: Command = { stages: [{ argv: ['test', '-e', kept] }] }

/** What the tool wrote says from where it counts: not from where the parent began, it is another one's child. */
const sameBeginning = `/^INCREMENTAL FROM LSN: / { lsn = $4 }
/^INCREMENTAL FROM TLI: / { timeline = $4 }
END {
  if (lsn == wanted && timeline == wantedTimeline) exit 0
  print "holdfast: made from another backup: from " lsn " on timeline " timeline > "/dev/stderr"
  exit 1
}`

export function incremental(
  parent: Manifest | undefined,
  directory: string,
): { arguments: string[]; before: Step[]; after: Step[] } {
  const { startLsn, timeline } = backupPositions.parse(parent?.facts.positions)
  const step = (id: string, title: string, ...stages: Step['run']['stages']): Step => ({
    id,
    title,
    run: { stages },
    output: { to: 'none' },
    resume: 'restart',
    writesTo: 'staging',
  })
  return {
    arguments: [`--incremental=${kept}`],
    before: [
      {
        ...step('parent', `backup_manifest of ${parent?.backupId}`, {
          argv: ['dd', `of=${kept}.new`, 'bs=1M', 'conv=fsync', 'status=none'],
        }),
        feeds: { artifact: manifestName, of: parent?.backupId ?? '' },
        // The tool may be reading it.
        done: isKept,
      },
      { ...step('parent-whole', 'it is whole', { argv: ['mv', '-T', `${kept}.new`, kept] }), done: isKept },
    ],
    after: [
      step(
        'based',
        'what it is made against',
        { argv: ['tar', '-x', '-O', '--occurrence=1', '-f', `${directory}/base.tar`, 'backup_label'] },
        { argv: ['awk', '-v', `wanted=${startLsn}`, '-v', `wantedTimeline=${timeline}`, sameBeginning] },
      ),
    ],
  }
}

export function incrementalChecks(cluster: ClusterFacts, versionNum: number): CheckResult[] {
  const base = { id: 'postgresql.incremental', title: 'Incremental backups can be made' }
  const fail = (code: CheckResult['code'], detail: string, hint: string): CheckResult[] => [
    { ...base, answer: 'fail', ...(code === undefined ? {} : { code }), detail, hint },
  ]
  if (versionNum < 170000) {
    return fail('database.version', 'The server is older than PostgreSQL 17.', 'Take full backups of it.')
  }
  if (!cluster.summarizeWal) {
    return fail(
      'database.privilege',
      'summarize_wal is off: the server does not know what has changed.',
      'ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf(); then a full backup.',
    )
  }
  return [{ ...base, answer: 'pass', detail: 'summarize_wal is on.' }]
}
