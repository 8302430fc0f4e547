/**
 * A directory of a database server as a destination: `server://db1/var/backups`, reached through the host of that name with
 * nothing but its shell. What lies there is what storage/local would write: from that machine it is `file:///var/backups`.
 */
import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { checkDestination } from '../check.ts'
import type { CallOptions, Destination } from '../destination.ts'
import { localCapabilities, openLocalDestination } from '../local/index.ts'
import { ask, type Store } from './ask.ts'
import { hostAndDirectory } from './form.ts'
import { getObject, putObject, readObject, removeObject, statObject } from './objects.ts'
import { listObjects } from './read.ts'
import { objectsScript, type ServerShell } from './shell.ts'
import { abortUpload, completeUpload, listParts, listUploads, openUpload, putPart } from './uploads.ts'

/** On the machine that we run on: its own files, without a shell in between. */
export function openServerDestinationHere(uri: string): Destination {
  return { ...openLocalDestination(hostAndDirectory(uri).directory), kind: 'server', uri }
}

/** Touches nothing until it is used. The shell's link is its owner's. */
export function openServerDestination(uri: string, shell: ServerShell): Destination {
  const root = fileURLToPath(hostAndDirectory(uri).directory)
  const store: Store = { uri, root, shell }
  const writer = randomBytes(9).toString('hex')
  const destination: Destination = {
    kind: 'server',
    uri,
    capabilities: localCapabilities,
    put: (key, body, options) => putObject(store, key, body, options),
    read: (key, options) => readObject(store, key, options),
    get: (key, options) => getObject(store, key, options),
    stat: (key, options) => statObject(store, key, options),
    list: (prefix, options) => listObjects(store, prefix, options),
    remove: (key, options) => removeObject(store, key, options),
    openUpload: (key, options) => openUpload(store, key, options),
    putPart: (key, uploadId, part, options) => putPart(store, writer, key, uploadId, part, options),
    listParts: (key, uploadId, options) => listParts(store, key, uploadId, options),
    completeUpload: (key, uploadId, parts, options) => completeUpload(store, key, uploadId, parts, options),
    abortUpload: (key, uploadId, options) => abortUpload(store, key, uploadId, options),
    listUploads: (prefix, options) => listUploads(store, prefix, options),
    check: (options = {}) => check(store, destination, options),
    close: async () => {},
  }
  return destination
}

async function check(store: Store, destination: Destination, options: CallOptions): Promise<string[]> {
  const doing = 'Making directories'
  await ask(store, { ...options, doing, script: objectsScript, words: ['sweep'] })
  await checkDestination(destination, options)
  return []
}
