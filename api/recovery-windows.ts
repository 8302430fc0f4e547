/** What can be recovered of a server: from its base backups in the catalog and the archived log in the destinations. */
import { listBackups } from '../catalog/backups.ts'
import { destinationSecrets, listDestinations, type StoredDestination } from '../catalog/destinations.ts'
import { resolveSecrets } from '../catalog/secret-references.ts'
import { baseOf, systemIdentifierOf } from '../model/base-backups.ts'
import { HoldfastError } from '../model/errors.ts'
import type { BackupRecord } from '../model/records.ts'
import type { ArchivedLogView, RecoveryWindowsView, RecoveryWindowView } from '../model/recovery-views.ts'
import { type RecoveryWindow, recoveryWindows } from '../model/recovery-window.ts'
import { formatLsn, segmentName } from '../model/wal.ts'
import { boundTo } from '../storage/bound.ts'
import type { Destination } from '../storage/destination.ts'
import { openDestination } from '../storage/index.ts'
import { streamKey } from '../storage/wal/layout.ts'
import { listLog } from '../storage/wal/listing.ts'
import type { ApiContext } from './context.ts'

/** A thousand names per request: an archive of months takes a while to list. */
export const patienceMs = 60_000
const mostBackups = 1000

/** Throws `wal.not-postgresql` for a connection that has no such log. */
export async function recoveryWindowsOf(
  context: ApiContext,
  connection: { name: string; serverIdentity: string },
  patience = patienceMs,
): Promise<RecoveryWindowsView> {
  const systemIdentifier = systemIdentifierOf(connection.serverIdentity)
  if (systemIdentifier === undefined) {
    throw new HoldfastError(
      'wal.not-postgresql',
      `Connection ${connection.name} is no PostgreSQL server whose system identifier is known.`,
    )
  }
  const backups = await basesOf(context, connection.name, systemIdentifier)
  const found: RecoveryWindowsView = {
    connection: connection.name,
    systemIdentifier,
    archives: [],
    unknown: [],
  }
  const about = { connection: connection.name, systemIdentifier }
  const looked = (await listDestinations(context.catalog)).map(async one => {
    try {
      const archive = await withinPatience(patience, context, one, here =>
        archiveIn(one.name, here, about, backups),
      )
      if (archive) found.archives.push(archive)
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      const { code, detail, hint } = error.facts()
      found.unknown.push({ destination: one.name, code, detail, hint })
    }
  })
  await Promise.all(looked)
  found.archives.sort((a, b) => (a.destination < b.destination ? -1 : 1))
  return found
}

export async function basesOf(
  { catalog }: Pick<ApiContext, 'catalog'>,
  connection: string,
  systemIdentifier: string,
): Promise<BackupRecord[]> {
  const backups = await listBackups(catalog, { connection, committed: true }, undefined, mostBackups)
  return backups.filter(
    ({ manifest, serverIdentity }) =>
      systemIdentifierOf(serverIdentity) === systemIdentifier && baseOf(manifest) !== undefined,
  )
}

export async function withinPatience<T>(
  patience: number,
  context: ApiContext,
  record: StoredDestination,
  ask: (destination: Destination) => Promise<T>,
): Promise<T> {
  const secrets = await resolveSecrets(await destinationSecrets(context.catalog, record.name))
  const opened = await openDestination(record, secrets, { shellOn: context.shellOn })
  const signal = AbortSignal.timeout(patience)
  try {
    return await ask(boundTo(signal, opened))
  } catch (error) {
    if (!signal.aborted) throw error
    throw new HoldfastError(
      'destination.unreachable',
      `${record.uri} did not list its log within ${patience / 1000} seconds.`,
    )
  } finally {
    await opened.close()
  }
}

/** undefined: there is none of this server. */
export async function archiveIn(
  name: string,
  destination: Destination,
  stream: { connection: string; systemIdentifier: string },
  backups: readonly BackupRecord[],
): Promise<ArchivedLogView | undefined> {
  if ((await destination.stat(streamKey(stream))) === undefined) return undefined
  const log = await listLog(destination, stream)
  const bases = backups.flatMap(({ manifest }) => baseOf(manifest) ?? [])
  const endedAt = new Map(backups.map(backup => [backup.id, backup.endedAt]))
  return {
    destination: name,
    segments: log.segments,
    storedBytes: log.storedBytes,
    newest: log.newest ?? null,
    windows: recoveryWindows(log, bases).map(window => shown(window, log.segmentBytes, endedAt)),
  }
}

const shown = (
  { timeline, parent, intervals, bases, gaps }: RecoveryWindow,
  segmentBytes: number,
  endedAt: ReadonlyMap<string, string>,
): RecoveryWindowView => ({
  timeline,
  parent: parent === undefined ? null : { timeline: parent.parent, leftAt: formatLsn(parent.at) },
  intervals: intervals.map(({ from, to }) => ({ from: formatLsn(from), to: formatLsn(to) })),
  bases: bases.map(({ backupId, stop, reach }) => ({
    backup: backupId,
    endedAt: endedAt.get(backupId) ?? '',
    from: formatLsn(stop),
    to: formatLsn(reach),
  })),
  gaps: gaps.map(gap => ({
    first: segmentName(gap.timeline, gap.first, segmentBytes),
    last: segmentName(gap.timeline, gap.last, segmentBytes),
    lost: {
      from: formatLsn(gap.cutsOff.from),
      to: gap.cutsOff.to === undefined ? null : formatLsn(gap.cutsOff.to),
    },
  })),
})
