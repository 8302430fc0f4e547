/** Backups of a whole PostgreSQL server by pg_basebackup, and whether they would work. docs/engines/postgresql.md, Physical. */

import { archivingFacts } from '../../../model/archiving.ts'
import type { CheckResult, Json } from '../../../model/types.ts'
import type { ArtifactSpec, BackupPlan, BackupRequest, ServerFacts, Step } from '../../engine.ts'
import { tool } from '../client.ts'
import type { PostgresqlConnection } from '../connection.ts'
import { postgresqlFacts } from '../facts.ts'
import { majorOf } from '../probe.ts'
import { archivingChecks } from './archiving.ts'
import { backupPositions, type ClusterFacts, clusterFacts } from './facts.ts'
import { expectParent, incremental, incrementalChecks } from './incremental.ts'

/** `tar` goes straight to the destination where the tool can (no tablespaces); `staged-tar` never does. */
export const toolFormats = ['tar', 'staged-tar'] as const

const directory = 'base'

export function planBackup(
  settings: PostgresqlConnection,
  request: BackupRequest,
  facts: ServerFacts,
): BackupPlan {
  const { tablespaces } = clusterFacts.parse(facts.facts.cluster)
  const isStaged = stagedWhere(request, facts)
  if (request.type === 'incremental') expectParent(request.parent, facts)
  const against = request.type === 'incremental' ? incremental(request.parent, directory) : undefined
  const run = {
    stages: [
      tool(request.connection, settings, settings.maintenanceDatabase, [
        'pg_basebackup',
        ...['-D', isStaged ? directory : '-', '-Ft'],
        // A second connection can only write a file of its own.
        ...['-X', isStaged ? 'stream' : 'fetch'],
        ...['-c', settings.checkpoint ?? 'fast'],
        ...['-l', `holdfast ${request.connection}`],
        '--manifest-checksums=CRC32C',
        ...(settings.maxrate === undefined ? [] : ['-r', settings.maxrate]),
        ...(against?.arguments ?? []),
        ...['-v', '-w'],
      ]),
    ],
  } as const
  if (!isStaged) {
    return {
      steps: [
        {
          id: 'base',
          title: 'pg_basebackup, tar, with its WAL and backup_manifest',
          run,
          output: { to: 'artifact', artifact: 'base.tar' },
          resume: 'restart',
        },
      ],
      artifacts: [{ name: 'base.tar', format: 'pgbasebackup-tar', from: { step: 'base' } }],
    }
  }
  const artifacts = stagedArtifacts(tablespaces)
  const step: Pick<Step, 'output' | 'resume' | 'writesTo'> = {
    output: { to: 'none' },
    resume: 'attach',
    writesTo: 'staging',
  }
  return {
    steps: [
      ...(against?.before ?? []),
      { id: 'base', title: 'pg_basebackup, tar, WAL streamed beside', run, ...step },
      ...(against?.after ?? []),
      {
        id: 'complete',
        title: 'nothing was made that the plan does not name',
        run: nothingElse(artifacts.map(({ name }) => name)),
        ...step,
      },
    ],
    artifacts,
  }
}

/**
 * Where the tool can write to standard output, it does; unless the server keeps what incremental backups ask for: they are made
 * against a backup_manifest that is an artifact of its own.
 */
function stagedWhere(request: BackupRequest, facts: ServerFacts): boolean {
  const { tablespaces, summarizeWal } = clusterFacts.parse(facts.facts.cluster)
  return request.toolFormat === 'staged-tar' || tablespaces.length > 0 || summarizeWal
}

/** backup_manifest first: the others are read against it. */
const stagedArtifacts = (tablespaces: ClusterFacts['tablespaces']): ArtifactSpec[] => [
  {
    name: 'backup_manifest',
    format: 'pgbasebackup-manifest',
    from: { file: `${directory}/backup_manifest` },
    header: '{ "PostgreSQL-Backup-Manifest-Version"',
    trailer: '"}',
  },
  { name: 'base.tar', format: 'pgbasebackup-tar', from: { file: `${directory}/base.tar` } },
  ...tablespaces.map(
    ({ oid }): ArtifactSpec => ({
      name: `${oid}.tar`,
      format: 'pgbasebackup-tablespace',
      from: { file: `${directory}/${oid}.tar` },
    }),
  ),
  { name: 'pg_wal.tar', format: 'pgbasebackup-wal', from: { file: `${directory}/pg_wal.tar` } },
]

/** A tablespace that came after the plan was made is a file that nobody would send. */
const nothingElse = (names: readonly string[]) =>
  ({
    stages: [
      { argv: ['find', directory, '-mindepth', '1', ...names.flatMap(name => ['!', '-name', name])] },
      { argv: ['awk', '{ print "holdfast: not in the plan: " $0 > "/dev/stderr"; n = 1 } END { exit n }'] },
    ],
  }) as const

const lsn = '[0-9A-F]{1,8}/[0-9A-F]{1,8}'

/** From the words of `-v`; they are in backup_manifest, too: a backup is whole without them. */
export function collect(said: Readonly<Record<string, string>>): Record<string, Json> {
  const words = Object.values(said).join('\n')
  const start = new RegExp(`write-ahead log start point: (${lsn}) on timeline (\\d+)`).exec(words)
  const stop = new RegExp(`write-ahead log end point: (${lsn})`).exec(words)
  if (!start || !stop) return {}
  return {
    positions: backupPositions.parse({ startLsn: start[1], timeline: Number(start[2]), stopLsn: stop[1] }),
  }
}

/** Unless `maxlag` says otherwise. */
const usualLagSeconds = 300

export function checks(
  settings: PostgresqlConnection,
  request: BackupRequest,
  facts: ServerFacts,
): CheckResult[] {
  const cluster = clusterFacts.parse(facts.facts.cluster)
  const { server } = postgresqlFacts.parse(facts.facts)
  const isStaged = stagedWhere(request, facts)
  return [
    ...(request.type === 'incremental' ? incrementalChecks(cluster, server.versionNum) : []),
    ...versions(facts, server.versionNum),
    permission(server.user, cluster.replication),
    wal(cluster, isStaged),
    ...(isStaged ? [] : [retention(cluster)]),
    ...standby(server.inRecovery, cluster.standbyLagSeconds, settings.maxlag ?? usualLagSeconds),
    pages(cluster.pageChecksums),
    ...elsewhere(cluster),
    ...archivingChecks(archivingFacts.parse(facts.facts.archiving)),
  ]
}

function versions(facts: ServerFacts, versionNum: number): CheckResult[] {
  const base = { id: 'postgresql.tool-version', title: 'pg_basebackup fits the server' }
  if (versionNum < 130000) {
    return [
      {
        ...base,
        answer: 'fail',
        code: 'database.version',
        detail: `The server is ${facts.version}: it writes no backup_manifest, and a backup could not be verified.`,
        hint: 'Physical backups are for PostgreSQL 13 and newer; take logical ones of this server.',
      },
    ]
  }
  const version = facts.tools.find(one => one.name === 'pg_basebackup')?.version
  if (version === undefined) {
    return [
      {
        ...base,
        answer: 'fail',
        code: 'host.tool-missing',
        detail: 'pg_basebackup is not installed on this host.',
        hint: 'Install the PostgreSQL client tools of the server version (Debian, Ubuntu: apt install postgresql-client).',
      },
    ]
  }
  if (majorOf(version) < majorOf(facts.version)) {
    return [
      {
        ...base,
        answer: 'fail',
        code: 'host.tool-version',
        detail: `pg_basebackup ${version} is older than the server (${facts.version}) and would refuse it.`,
        hint: `Install the client tools of PostgreSQL ${majorOf(facts.version)}.`,
      },
    ]
  }
  return [{ ...base, answer: 'pass', detail: `pg_basebackup ${version}, server ${facts.version}` }]
}

function permission(user: string, replication: boolean): CheckResult {
  const base = { id: 'postgresql.replication', title: 'The user may replicate' }
  if (replication) return { ...base, answer: 'pass', detail: `User "${user}" has REPLICATION.` }
  return {
    ...base,
    answer: 'fail',
    code: 'database.privilege',
    detail: `User "${user}" is neither superuser nor has REPLICATION.`,
    hint: 'ALTER ROLE … REPLICATION; and a line for "replication" in pg_hba.conf.',
  }
}

function wal(
  { walLevel, maxWalSenders, walSenders, freeSlots }: ClusterFacts,
  isStaged: boolean,
): CheckResult {
  const base = { id: 'postgresql.wal', title: 'The server can send a backup' }
  const needed = isStaged ? 2 : 1
  const fail = (detail: string, hint: string): CheckResult => ({
    ...base,
    answer: 'fail',
    code: 'database.privilege',
    detail,
    hint,
  })
  if (walLevel === 'minimal') {
    return fail('wal_level is minimal.', 'Set wal_level = replica and restart the server.')
  }
  if (maxWalSenders - walSenders < needed) {
    return fail(
      `max_wal_senders is ${maxWalSenders}, ${walSenders} are in use; the backup needs ${needed}.`,
      `Set max_wal_senders = ${walSenders + needed + 1} and restart the server.`,
    )
  }
  if (isStaged && freeSlots < 1) {
    return fail(
      'No replication slot is free; the WAL is streamed through a temporary one.',
      'Raise max_replication_slots and restart the server, or drop slots that nobody uses.',
    )
  }
  return {
    ...base,
    answer: 'pass',
    detail: `wal_level ${walLevel}, ${maxWalSenders - walSenders} of ${maxWalSenders} senders free.`,
  }
}

/** `-X fetch` takes the WAL at the end: nobody holds it until then. */
function retention({ walKeepMegabytes, maxWalMegabytes }: ClusterFacts): CheckResult {
  const base = { id: 'postgresql.wal-kept', title: 'WAL is kept until the backup ends' }
  if (walKeepMegabytes >= maxWalMegabytes) {
    return { ...base, answer: 'pass', detail: `wal_keep_size is ${walKeepMegabytes} MB.` }
  }
  return {
    ...base,
    answer: 'warn',
    detail: `wal_keep_size is ${walKeepMegabytes} MB: a server that writes more than it keeps (max_wal_size is ${maxWalMegabytes} MB) while the backup runs ends it with "WAL segment has already been removed".`,
    hint: 'Raise wal_keep_size (a reload is enough), or use the format staged-tar, which streams WAL through a temporary slot.',
  }
}

function standby(inRecovery: boolean, lagSeconds: number | null, mostSeconds: number): CheckResult[] {
  if (!inRecovery) return []
  const base = { id: 'postgresql.standby', title: 'The standby is up to date' }
  if (lagSeconds !== null && lagSeconds <= mostSeconds) {
    return [{ ...base, answer: 'pass', detail: `${lagSeconds} s behind, at most ${mostSeconds} s.` }]
  }
  return [
    {
      ...base,
      answer: 'fail',
      code: 'database.busy',
      detail: `This server is a standby, ${lagSeconds === null ? 'and nobody knows how far' : `${lagSeconds} s`} behind; a backup of it may be at most ${mostSeconds} s old.`,
      hint: 'Wait until it caught up, back up the primary, or allow more with ?maxlag=SECONDS in the URL of the connection.',
    },
  ]
}

function pages(checksums: boolean): CheckResult {
  const base = { id: 'postgresql.page-checksums', title: 'Pages have checksums' }
  if (checksums) return { ...base, answer: 'pass', detail: 'Every page is checked as it is read.' }
  return {
    ...base,
    answer: 'warn',
    detail:
      'The server has no page checksums: a page that the disk has damaged is backed up as it is, and nobody notices.',
    hint: 'pg_checksums --enable on the stopped server.',
  }
}

function elsewhere({ dataDirectory, configFiles }: ClusterFacts): CheckResult[] {
  const outside =
    dataDirectory === null ? [] : configFiles.filter(file => !file.startsWith(`${dataDirectory}/`))
  if (outside.length === 0) return []
  return [
    {
      id: 'postgresql.config',
      title: 'Configuration',
      answer: 'warn',
      detail: `${outside.join(', ')} lie outside of the data directory and are not in the backup.`,
      hint: 'Keep copies of them: a restored server starts with the defaults otherwise.',
    },
  ]
}
