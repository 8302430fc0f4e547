/**
 * Restores of a whole server into a new data directory: unpacked under a temporary name, held against backup_manifest by
 * PostgreSQL's own tool, cut off from the server it came from, started once on a private socket to prove itself, stopped, and
 * only then named, or put in the place of another directory (swap.ts).
 */

import { basename, dirname } from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../../../model/errors.ts'
import type { Manifest } from '../../../model/manifest.ts'
import type { RestorePlan, RestoreTarget, ServerFacts, Step } from '../../engine.ts'
import { checkedToken } from '../../names.ts'
import { one, step } from '../../steps.ts'
import { factsOf } from '../facts.ts'
import { majorOf } from '../probe.ts'
import { byPrograms, expectMountable, removeContainers } from './container.ts'
import { existingFacts } from './existing.ts'
import { clusterOf } from './facts.ts'
import { manifestName } from './manifest.ts'
import { asOwner, type ProgramFacts, programFacts, script } from './programs.ts'
import { forgetTargets, ownSettings, planReplay, planServe, planStart } from './recovery.ts'
import { swapOf } from './swap.ts'

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
  /** Of what was there, from the swap on. */
  kept: string
  /** Of the swap, while it is under way. */
  journal: string
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
    kept: `${database}.old-${random}`,
    journal: `${database}.holdfast-${random}.journal`,
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

/**
 * The host's programs of the backup's major version: data directories fit no other. The owner of what is replaced is the owner of
 * what replaces it, whoever the tools run as.
 */
export function serverPrograms(
  manifest: Manifest,
  targetFacts: ServerFacts,
  { replaces }: Pick<RestoreTarget, 'replaces'>,
): ProgramFacts & { directory: string } {
  const known = programFacts.parse(targetFacts.facts.programs)
  const actAs = known.actAs && replaces ? existingFacts.parse(replaces.facts).owner : known.actAs
  const facts = { ...known, actAs }
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

/** What was unpacked goes to disk while it is read again: one takes the disk, the other a processor. */
const verifyAndSync = `sync -f -- "$1" &
shift
"$@"
verified=$?
wait "$!" || exit 1
exit "$verified"`

/** Of tablespaces that a backup has, by OID. */
const tablespacesIn = (manifest: Manifest): string[] => {
  const names = manifest.artifacts.map(({ name }) => name)
  return clusterOf(manifest)
    .tablespaces.map(({ oid }) => oid)
    .filter(oid => names.includes(`${oid}.tar`))
}

/** In pg_combinebackup's pairs of directories. */
const mapped = (path: string): string => path.replaceAll('=', '\\=')

/** The whole chain side by side, full backup first; then one data directory of it, with a backup_manifest of its own. */
function combine(
  chain: readonly Manifest[],
  self: Manifest,
  { chain: directory, temporary, tablespaces }: Places,
  programs: string,
): Step[] {
  const places = chain.map((_, index) => `${directory}/${index}`)
  const last = chain.length - 1
  return [
    ...chain.flatMap((manifest, index) => {
      const place = `${directory}/${index}`
      const of = manifest.backupId === self.backupId ? undefined : manifest.backupId
      return [
        unpack(`base-${index}`, `unpack ${manifest.backupId}`, 'base.tar', place, of),
        // The tool finds them by their links, as the server has them.
        ...tablespacesIn(manifest).flatMap(oid => [
          unpack(
            `tablespace-${index}-${oid}`,
            `unpack tablespace ${oid} of ${manifest.backupId}`,
            `${oid}.tar`,
            `${place}.${oid}`,
            of,
          ),
          step(
            `link-${index}-${oid}`,
            `link tablespace ${oid}`,
            one('ln', '-sT', '--', `${place}.${oid}`, `${place}/pg_tblspc/${oid}`),
          ),
        ]),
        unpack(`wal-${index}`, `unpack the WAL of ${manifest.backupId}`, 'pg_wal.tar', `${place}/pg_wal`, of),
        putManifest(`manifest-${index}`, place, of),
      ]
    }),
    step(
      'combine',
      'pg_combinebackup',
      one(
        `${programs}/pg_combinebackup`,
        '--manifest-checksums=CRC32C',
        ...tablespacesIn(self).map(
          oid =>
            `--tablespace-mapping=${mapped(`${directory}/${last}.${oid}`)}=${mapped(`${tablespaces}/${oid}`)}`,
        ),
        ...['-o', temporary, ...places],
      ),
    ),
    step('uncombined', 'the chain goes', one('rm', '-rf', '--', directory)),
  ]
}

/**
 * The agent that fetches for a recovery lays what will be asked for next into its pg_wal, also while that is being removed. Where
 * there is no such directory any more it lays nothing: so each first loses its name. Somebody who was killed here left the other.
 */
const removing = `removed() {
  for one in "$@"; do
    rm -rf -- "$one.removed" || return
    [ ! -e "$one" ] || mv -T -- "$one" "$one.removed" || return
    rm -rf -- "$one.removed" || return
  done
}
`

/** Of a copy that no agent fetches for. */
const removingAtOnce = `removed() { rm -rf -- "$@"; }
`

/** Arguments: whose it is; the data directory; all tablespaces; the directories that these need. Killed anywhere, it begins again. */
const makeRoom = `mark=$1 data=$2 tablespaces=$3
shift 3
removed "$tablespaces" "$data" && mkdir -m 0700 -- "$data" "$@" && touch -- "$data/$mark"`

/** Adds its input to the settings of the data directory; the rest are files to make in it. */
const cutOff = `data=$1
shift
cat >>"$data/postgresql.auto.conf" || exit
for name in "$@"; do touch -- "$data/$name" || exit; done
sync -f -- "$data"`

/** Steps that run the server's own programs. */
const byTheServers = new Set(['combine', 'verify'])

/** After the copy has been handed over, `ALTER SYSTEM RESET` of these gives back what the server had. */
const isolation = `
# Restored by Holdfast: it must not archive, replicate or take slots as the server it was copied from.
archive_mode = 'off'
primary_conninfo = ''
primary_slot_name = ''
max_logical_replication_workers = '0'
`

/** What the server's programs have to see of a copy under its temporary name. */
export const directoriesOf = (manifest: Manifest, { temporary, tablespaces }: Places): string[] =>
  tablespacesIn(manifest).length > 0 ? [temporary, tablespaces] : [temporary]

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
  const names = manifest.artifacts.map(({ name }) => name)
  const unknown = manifest.artifacts.find(({ format }) => !format.startsWith('pgbasebackup-'))
  if (unknown || !names.includes('base.tar')) {
    throw new HoldfastError(
      'restore.mismatch',
      `Backup ${manifest.backupId} holds ${unknown ? `"${unknown.format}"` : 'no base.tar'}; it is no physical backup of PostgreSQL.`,
    )
  }
  const programs = serverPrograms(manifest, targetFacts, target)
  const places = placesOf(target)
  const { temporary, tablespaces, mark, final, chain } = places
  const parents = target.parents ?? []
  const { recovery } = target
  const clear = (...paths: string[]) =>
    recovery ? script(`${removing}removed "$@"`, ...paths) : one('rm', '-rf', '--', ...paths)
  expectChain([...parents, manifest])
  const oids = tablespacesIn(manifest)
  if (programs.container) expectMountable(target.database)
  const made: Step[] =
    parents.length > 0
      ? [
          step('clear', 'clear an earlier try', clear(chain, tablespaces, temporary)),
          step(
            'make',
            'room for the chain, 0700',
            one(
              'mkdir',
              '-m',
              '0700',
              '--',
              chain,
              ...[...parents, manifest].flatMap((each, index) => [
                `${chain}/${index}`,
                ...tablespacesIn(each).map(oid => `${chain}/${index}.${oid}`),
              ]),
              // What is mounted has to be there.
              ...(programs.container ? directoriesOf(manifest, places) : []),
            ),
          ),
          ...combine([...parents, manifest], manifest, places, programs.directory),
          step('mark', 'whose it is', one('touch', '--', `${temporary}/${mark}`)),
        ]
      : [
          step(
            'make',
            'the new directory, 0700, in place of an earlier try',
            script(
              (recovery ? removing : removingAtOnce) + makeRoom,
              ...[mark, temporary, tablespaces],
              ...(oids.length === 0 ? [] : [tablespaces, ...oids.map(oid => `${tablespaces}/${oid}`)]),
            ),
          ),
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
      script(
        verifyAndSync,
        ...[temporary, `${programs.directory}/pg_verifybackup`, '-q', '-e'],
        ...[...leftOut, mark].flatMap(name => ['-i', name]),
        temporary,
      ),
    ),
    ...(recovery
      ? [
          step(
            'forget',
            'targets of an earlier recovery go',
            one(...forgetTargets, `${temporary}/postgresql.auto.conf`),
          ),
        ]
      : []),
    step(
      'isolate',
      recovery ? 'no archiving, no replication; it is to recover' : 'no archiving, no replication; to disk',
      {
        ...script(cutOff, temporary, ...(recovery ? ['recovery.signal'] : [])),
        input: recovery ? isolation + ownSettings(recovery) : isolation,
      },
    ),
  ]
  const seen = [...directoriesOf(manifest, places), ...(parents.length > 0 ? [chain] : [])]
  const owned = (each: Step): Step => ({
    ...each,
    run: byTheServers.has(each.id)
      ? byPrograms(programs, mark, each.id === 'combine' ? seen : directoriesOf(manifest, places), each.run)
      : asOwner(programs, each.run),
  })
  const left = [mark, `${mark}.replayed`, `${mark}.replayed.log`].map(name => `${final}/${name}`)
  const replaces =
    target.replaces &&
    swapOf(places, target.replaces, {
      ...{ manifest, targetFacts, programs, isolation },
      recovered: recovery !== undefined,
    })
  return {
    ...(recovery
      ? {
          replay: planReplay(recovery, places, programs, {
            user: clusterOf(manifest).bootstrapUser,
            preparedTransactions: factsOf(manifest).server.maxPreparedTransactions,
          }),
          ...(recovery.socket === null
            ? {}
            : {
                serve: planServe(
                  temporary,
                  recovery.socket,
                  programs,
                  factsOf(manifest).server.maxPreparedTransactions,
                ),
              }),
        }
      : {}),
    steps: load.map(each => ({ ...owned(each), group: 'load' })),
    ...(replaces ? { swap: replaces.plan } : {}),
    // What one database is dumped from gets no name.
    finish:
      replaces || (recovery && recovery.socket !== null)
        ? []
        : [
            {
              ...step('name', `name it ${basename(final)}`, one('mv', '-T', '--', temporary, final)),
              done: one('test', '-e', `${final}/${mark}`),
            },
            step(
              'unmark',
              'directory to disk, the mark goes',
              script(
                'sync -- "$1" && shift && rm -f -- "$@"',
                ...[dirname(final), ...(recovery ? left : left.slice(0, 1))],
              ),
            ),
          ]
            .map(owned)
            .concat(recovery?.leaveRunning ? [planStart(final, programs)] : []),
    destroys: replaces?.destroys ?? [],
    // Once it has its name, its tablespaces are in use.
    undo: [
      ...(programs.container ? [removeContainers(programs.container, mark)] : []),
      script(
        `${removing}removed "$3" "$4" "$5" && { [ ! -e "$1" ] || removed "$2"; } && removed "$1"`,
        ...[temporary, tablespaces, places.socket, chain, recovery?.socket ?? places.socket],
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
