/** Whose word counts in the log archives of a connection: who asks, and whom this installation vouches for. */
import { listDestinations } from '../catalog/destinations.ts'
import { installationKeys } from '../catalog/installation.ts'
import { systemIdentifierOf } from '../model/base-backups.ts'
import { HoldfastError } from '../model/errors.ts'
import type { ArchiversView } from '../model/recovery-views.ts'
import { thumbprint } from '../storage/keys.ts'
import { listArchivers, vouchedFor, vouchFor } from '../storage/wal/archivers.ts'
import type { ApiContext } from './context.ts'
import { InvalidRequest } from './problem.ts'
import { patienceMs, withinPatience } from './recovery-windows.ts'

interface Asked {
  name: string
  serverIdentity: string
}

/** `vouch`: for this archiver, wherever it asks. Throws `wal.not-postgresql`. */
export async function archiversOf(
  context: ApiContext,
  { name: connection, serverIdentity }: Asked,
  vouch?: { archiver: string; fingerprint: string },
): Promise<ArchiversView> {
  const systemIdentifier = systemIdentifierOf(serverIdentity)
  if (systemIdentifier === undefined) {
    throw new HoldfastError(
      'wal.not-postgresql',
      `Connection ${connection} is no PostgreSQL server whose system identifier is known.`,
    )
  }
  const stream = { connection, systemIdentifier }
  const keys = await installationKeys(context.catalog)
  const own = { [keys.installationId]: keys.publicKey }
  const found: ArchiversView = { items: [], unknown: [] }
  const looked = (await listDestinations(context.catalog)).map(async record => {
    try {
      await withinPatience(patienceMs, context, record, async destination => {
        const listed = await listArchivers(destination, stream)
        const known = listed.length === 0 ? {} : await vouchedFor(destination, stream, own)
        for (const { request } of listed) {
          const { archiver, publicKey, createdAt } = request
          const fingerprint = await thumbprint(publicKey)
          // A name that was vouched for under another key is not this one.
          const said = known[archiver]
          let vouched = said !== undefined && (await thumbprint(said)) === fingerprint
          if (!vouched && vouch?.archiver === archiver && vouch.fingerprint === fingerprint) {
            await vouchFor(destination, request, keys)
            vouched = true
          }
          found.items.push({ destination: record.name, archiver, fingerprint, askedAt: createdAt, vouched })
        }
      })
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      const { code, detail, hint } = error.facts()
      found.unknown.push({ destination: record.name, code, detail, hint })
    }
  })
  await Promise.all(looked)
  const byPlace = (one: ArchiversView['items'][number]) => `${one.destination} ${one.archiver}`
  found.items.sort((a, b) => (byPlace(a) < byPlace(b) ? -1 : 1))
  return found
}

/** Throws `request.invalid` where no archiver with that key asks. */
export async function vouchForArchiver(
  context: ApiContext,
  connection: Asked,
  asked: { archiver: string; fingerprint: string },
): Promise<ArchiversView> {
  const found = await archiversOf(context, connection, asked)
  if (found.items.some(one => one.archiver === asked.archiver && one.fingerprint === asked.fingerprint)) {
    return found
  }
  const other = found.items.find(({ archiver }) => archiver === asked.archiver)
  throw new InvalidRequest([
    other
      ? {
          path: 'fingerprint',
          message: `the archiver of this name that asks has the fingerprint ${other.fingerprint}`,
        }
      : { path: 'archiver', message: 'none of this name asks: `holdfast wal begin` on its host does' },
  ])
}
