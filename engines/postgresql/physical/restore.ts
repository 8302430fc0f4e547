/**
 * Restores of a whole server into a new data directory: unpacked under a temporary name, held against backup_manifest by
 * PostgreSQL's own tool, cut off from the server it came from, started once on a private socket to prove itself, stopped, and
 * only then named. Nothing that is there is touched: in the place of another directory it is not put.
 */

import { basename, dirname } from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../../../model/errors.ts'
import type { Manifest } from '../../../model/manifest.ts'
import type { Probe, RestorePlan, RestoreTarget, ServerFacts, Step } from '../../engine.ts'
import { checkedToken } from '../../names.ts'
import { one, step } from '../../steps.ts'
import { majorOf } from '../probe.ts'
import { clusterOf } from './facts.ts'
import { manifestName } from './manifest.ts'
import { asOwner, type ProgramFacts, programFacts, script } from './programs.ts'

/** Where a restore writes. */
export interface Places {
  final: string
  /** Beside it, so that one rename gives the name. */
  temporary: string
  /** Of tablespaces: a directory per OID. Keeps its name, as the links in the data directory say it. */
  tablespaces: string
  /** Within the data directory until it has been named: whose it is. */
  mark: string
  /** The backups of a chain, side by side, until they are put together. */
  chain: string
  /** While it proves itself. A path of a socket has at most 107 bytes: it cannot be in the data directory. */
  socket: string
}

export function placesOf({ database, token }: RestoreTarget): Places {
  const random = checkedToken(token).toLowerCase()
  return {
    final: database,
    temporary: `${database}.holdfast-${random}`,
    tablespaces: `${database}.tablespaces-${random}`,
    chain: `${database}.chain-${random}`,
    mark: `holdfast-restore-${random}`,
    socket: `/tmp/holdfast-${random}`,
  }
}

export function directoryProblem(path: string): string | undefined {
  if (!path.startsWith('/') || path.endsWith('/') || path === '/')
    return 'must be the absolute path of a directory'
  if (/\p{Cc}/u.test(path) || path.split('/').some(part => part === '..' || part === '.')) {
    return 'must not hold control characters, "." or ".."'
  }
  // A socket's path, and names that are made of it.
  if (Buffer.byteLength(path) > 900 || Buffer.byteLength(basename(path)) > 180) return 'is too long'
  return undefined
}

/** The host's programs of the backup's major version: data directories fit no other. */
export function serverPrograms(
  manifest: Manifest,
  targetFacts: ServerFacts,
): ProgramFacts & { directory: string } {
  const facts = programFacts.parse(targetFacts.facts.programs)
  const major = majorOf(manifest.server.version)
  const found = facts.servers.find(({ version }) => majorOf(version) === major)
  if (found) return { ...facts, directory: found.directory }
  const there = facts.servers.map(({ version }) => version).join(', ')
  throw new HoldfastError(
    'restore.mismatch',
    `The backup is of PostgreSQL ${manifest.server.version}; on this host there is ${there === '' ? 'no server' : there}.`,
    {
      hint: `Install the server package of PostgreSQL ${major} (Debian: postgresql-${major}), or restore on another host.`,
    },
  )
}

/**
 * What is not taken from the tar: the map that would link the copy to the tablespaces of the server it came from, and what
 * would make it a standby of somebody.
 */
const leftOut = ['tablespace_map', 'standby.signal', 'recovery.signal']

const unpack = (id: string, title: string, artifact: string, directory: string, of?: string): Step => ({
  ...step(
    id,
    title,
    // --ignore-zeros: reads to the real end, which is only said to be there once everything has proven itself.
    one(
      'tar',
      ...['-x', '-p', '--ignore-zeros', '--no-same-owner', '--anchored'],
      ...leftOut.map(name => `--exclude=${name}`),
      ...['-C', directory, '-f', '-'],
    ),
  ),
  feeds: { artifact, ...(of === undefined ? {} : { of }) },
})

const putManifest = (id: string, directory: string, of?: string): Step => ({
  ...step(
    id,
    'backup_manifest',
    one('dd', `of=${directory}/${manifestName}`, 'bs=1M', 'conv=fsync', 'status=none'),
  ),
  feeds: { artifact: manifestName, ...(of === undefined ? {} : { of }) },
})

/** The whole chain side by side, full backup first; then one data directory of it, with a backup_manifest of its own. */
function combine(
  chain: readonly Manifest[],
  self: Manifest,
  { chain: directory, temporary }: Places,
  programs: string,
): Step[] {
  const places = chain.map((_, index) => `${directory}/${index}`)
  return [
    ...chain.flatMap((manifest, index) => {
      const place = `${directory}/${index}`
      const of = manifest.backupId === self.backupId ? undefined : manifest.backupId
      return [
        unpack(`base-${index}`, `unpack ${manifest.backupId}`, 'base.tar', place, of),
        unpack(`wal-${index}`, `unpack the WAL of ${manifest.backupId}`, 'pg_wal.tar', `${place}/pg_wal`, of),
        putManifest(`manifest-${index}`, place, of),
      ]
    }),
    step(
      'combine',
      'pg_combinebackup',
      one(`${programs}/pg_combinebackup`, '--manifest-checksums=SHA256', '-o', temporary, ...places),
    ),
    step('uncombined', 'the chain goes', one('rm', '-rf', '--', directory)),
  ]
}

/** After the copy has been handed over, `ALTER SYSTEM RESET` of these gives back what the server had. */
const isolation = `
# Restored by Holdfast: it must not archive, replicate or take slots as the server it was copied from.
archive_mode = 'off'
primary_conninfo = ''
primary_slot_name = ''
max_logical_replication_workers = '0'
`

export function planRestore(
  target: RestoreTarget,
  manifest: Manifest,
  targetFacts: ServerFacts,
): RestorePlan {
  const problem = directoryProblem(target.database)
  if (problem !== undefined) {
    throw new HoldfastError(
      'request.invalid',
      `target.database: the directory "${target.database}" ${problem}.`,
      {
        hint: 'A physical backup is restored into a new data directory: --database /var/lib/postgresql/15/restored',
      },
    )
  }
  if (target.replaces) throw inPlace(target.database)
  const names = manifest.artifacts.map(({ name }) => name)
  const unknown = manifest.artifacts.find(({ format }) => !format.startsWith('pgbasebackup-'))
  if (unknown || !names.includes('base.tar')) {
    throw new HoldfastError(
      'restore.mismatch',
      `Backup ${manifest.backupId} holds ${unknown ? `"${unknown.format}"` : 'no base.tar'}; it is no physical backup of PostgreSQL.`,
    )
  }
  const programs = serverPrograms(manifest, targetFacts)
  const places = placesOf(target)
  const { temporary, tablespaces, mark, final, chain } = places
  const parents = target.parents ?? []
  expectChain([...parents, manifest])
  const oids = clusterOf(manifest)
    .tablespaces.map(({ oid }) => oid)
    .filter(oid => names.includes(`${oid}.tar`))
  const made: Step[] =
    parents.length > 0
      ? [
          step('clear', 'clear an earlier try', one('rm', '-rf', '--', chain, temporary)),
          step(
            'make',
            'room for the chain, 0700',
            one(
              'mkdir',
              '-m',
              '0700',
              '--',
              chain,
              ...[...parents, manifest].map((_, index) => `${chain}/${index}`),
            ),
          ),
          ...combine([...parents, manifest], manifest, places, programs.directory),
          step('mark', 'whose it is', one('touch', '--', `${temporary}/${mark}`)),
        ]
      : [
          step('clear', 'clear an earlier try', one('rm', '-rf', '--', tablespaces, temporary)),
          step(
            'make',
            'the new directory, 0700',
            one(
              'mkdir',
              ...['-m', '0700', '--', temporary],
              ...(oids.length === 0 ? [] : [tablespaces, ...oids.map(oid => `${tablespaces}/${oid}`)]),
            ),
          ),
          step('mark', 'whose it is', one('touch', '--', `${temporary}/${mark}`)),
          unpack('base', 'unpack the data directory', 'base.tar', temporary),
          ...oids.flatMap(oid => [
            unpack(`tablespace-${oid}`, `unpack tablespace ${oid}`, `${oid}.tar`, `${tablespaces}/${oid}`),
            step(
              `link-${oid}`,
              `link tablespace ${oid}`,
              one('ln', '-sT', '--', `${tablespaces}/${oid}`, `${temporary}/pg_tblspc/${oid}`),
            ),
          ]),
          ...(names.includes('pg_wal.tar')
            ? [unpack('wal', 'unpack the WAL', 'pg_wal.tar', `${temporary}/pg_wal`)]
            : []),
          ...(names.includes(manifestName) ? [putManifest('manifest', temporary)] : []),
        ]
  const load: Step[] = [
    ...made,
    step(
      'verify',
      'pg_verifybackup: every file and the WAL, as they lie there now',
      one(
        `${programs.directory}/pg_verifybackup`,
        ...['-q', '-e', ...[...leftOut, mark].flatMap(name => ['-i', name]), temporary],
      ),
    ),
    step('isolate', 'no archiving, no replication', {
      ...one('tee', '-a', '--', `${temporary}/postgresql.auto.conf`),
      input: isolation,
    }),
    step('sync', 'to disk', one('sync', '-f', '--', temporary)),
  ]
  const owned = (each: Step): Step => ({ ...each, run: asOwner(programs, each.run) })
  return {
    steps: load.map(each => ({ ...owned(each), group: 'load' })),
    finish: [
      {
        ...step('name', `name it ${basename(final)}`, one('mv', '-T', '--', temporary, final)),
        done: one('test', '-e', `${final}/${mark}`),
      },
      step('sync-directory', 'directory to disk', one('sync', '--', dirname(final))),
      step('unmark', 'the mark goes', one('rm', '-f', '--', `${final}/${mark}`)),
    ].map(owned),
    destroys: [],
    // Once it has its name, its tablespaces are in use.
    undo: [
      script(
        'rm -rf -- "$3" "$4"; [ ! -e "$1" ] || rm -rf -- "$2" "$1"',
        ...[temporary, tablespaces, places.socket, chain],
      ),
    ],
  }
}

/** Each is made against the one before, by its manifest, and the first is a full one. Throws `backup.parent`. */
function expectChain(chain: readonly Manifest[]): void {
  for (const [index, { backupId, type, parent, facts }] of chain.entries()) {
    const before = chain[index - 1]
    if (type === 'full' && index === 0) continue
    const named = z.object({ attemptId: z.string() }).safeParse(facts.parent)
    if (before && parent === before.backupId && named.data?.attemptId === before.attemptId) continue
    throw new HoldfastError(
      'backup.parent',
      `Backup ${backupId} needs ${parent ?? 'a full backup'}, and ${before ? `${before.backupId}, attempt ${before.attemptId}, is another one` : 'it is not there'}.`,
      { hint: 'Restore another backup; this one cannot be put together.' },
    )
  }
}

/** Somebody is there: a directory that is not empty. */
export const inPlace = (directory: string): HoldfastError =>
  new HoldfastError(
    'restore.swap-refused',
    `${directory} is not empty, and a data directory is not put in the place of another one.`,
    {
      hint: 'Restore into a new directory beside it; then stop the server, exchange the two directories by hand, and start it.',
    },
  )

/** Prints the directory if it is there and holds something. */
export function existing(database: string): Probe<undefined> {
  return {
    commands: { there: one('ls', '-A', '--', database) },
    read({ there }) {
      if ((there?.stdout.trim() ?? '') !== '') throw inPlace(database)
      return undefined
    },
  }
}
