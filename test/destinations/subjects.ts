/** The places that the destination tests run on. */
import { chown, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { DestinationRecord } from '../../model/records.ts'
import { openDestination } from '../../storage/index.ts'
import type { ServerShell } from '../../storage/server/shell.ts'
import type { Azurite } from '../servers/azurite.ts'
import type { Gcs } from '../servers/gcs.ts'
import type { Versitygw } from '../servers/versitygw.ts'
import type { Subject } from './conformance.ts'

export const localRecord = (path: string): DestinationRecord => ({
  name: 'shelf',
  kind: 'local',
  uri: path,
  settings: {},
  secretFields: [],
  createdAt: new Date().toISOString(),
})

export async function localSubject(): Promise<Subject & { root: string }> {
  const root = await mkdtemp(join(tmpdir(), "holdfast local 'destination'-"))
  const destination = await openDestination(localRecord(root), {})
  return {
    root,
    destination,
    again: () => openDestination(localRecord(root), {}),
    kept: async () => (await filesBelow(root)).filter(path => path !== '.holdfast-uploads/'),
    async close() {
      await destination.close()
      await rm(root, { recursive: true, force: true })
    },
  }
}

export const serverUri = (host: string, path: string): string =>
  `server://${host}${pathToFileURL(path).pathname}`

export const serverRecord = (host: string, path: string): DestinationRecord => ({
  ...localRecord(path),
  kind: 'server',
  uri: serverUri(host, path),
})

/** A directory of a machine that this shell is on; its files are seen from here. `owner`: of the shell, where it is another. */
export async function serverSubject(
  shell: ServerShell,
  owner?: { uid: number; gid: number },
): Promise<Subject & { root: string }> {
  const root = await mkdtemp(join(tmpdir(), "holdfast server's destination -"))
  if (owner) await chown(root, owner.uid, owner.gid)
  const open = () => openDestination(serverRecord('db', root), {}, { shellOn: async () => shell })
  const destination = await open()
  return {
    root,
    destination,
    again: open,
    kept: async () => (await filesBelow(root)).filter(path => path !== '.holdfast-uploads/'),
    async close() {
      await destination.close()
      await rm(root, { recursive: true, force: true })
    },
  }
}

export async function s3Subject(
  server: Versitygw,
  prefix: string,
  silenceSeconds?: number,
): Promise<Subject> {
  const record = server.destinationRecord(prefix)
  const destination = await openDestination(record, server.secrets, { silenceSeconds })
  return {
    destination,
    again: () => openDestination(record, server.secrets, { silenceSeconds }),
    // Versitygw keeps objects, their versions and the parts of open uploads as files.
    kept: async () =>
      (await filesBelow(server.root)).filter(
        path => !path.endsWith('/') && !/^(iam|buckets\/\.vgwlocks)\//.test(path),
      ),
    close: () => destination.close(),
  }
}

export async function azureSubject(
  server: Azurite,
  prefix: string,
  silenceSeconds?: number,
): Promise<Subject> {
  const record = server.destinationRecord(prefix)
  const destination = await openDestination(record, server.secrets, { silenceSeconds })
  return {
    destination,
    again: () => openDestination(record, server.secrets, { silenceSeconds }),
    kept: async () => {
      const names: string[] = []
      for await (const { name } of server.containerClient.listBlobsFlat({ includeUncommitedBlobs: true })) {
        names.push(name)
        const { uncommittedBlocks = [] } = await server.containerClient
          .getBlockBlobClient(name)
          .getBlockList('uncommitted')
        names.push(...uncommittedBlocks.map(block => `${name} ${block.name}`))
      }
      return names.sort()
    },
    close: () => destination.close(),
  }
}

export async function gcsSubject(server: Gcs, prefix: string, silenceSeconds?: number): Promise<Subject> {
  const record = server.destinationRecord(prefix)
  const destination = await openDestination(record, server.secrets, { silenceSeconds })
  return {
    destination,
    again: () => openDestination(record, server.secrets, { silenceSeconds }),
    kept: () => server.kept(),
    close: () => destination.close(),
  }
}

/** Relative paths, directories with a slash at the end, sorted. */
export async function filesBelow(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  return entries
    .map(
      entry =>
        `${join(entry.parentPath, entry.name).slice(root.length + 1)}${entry.isDirectory() ? '/' : ''}`,
    )
    .sort()
}
