/** Azure Blob Storage: `azure://container/prefix`. The container must be there; it is never made by us. */
import type { Capabilities, Destination } from '../destination.ts'
import { checkAzure } from './check.ts'
import { classesOf, moveObject } from './classes.ts'
import type { AzureSettings } from './form.ts'
import { listObjects, putObject, readObject, removeObject, statObject } from './objects.ts'
import { getObject } from './read.ts'
import { openStore } from './store.ts'
import { abortUpload, completeUpload, listParts, listUploads, openUpload, putPart } from './uploads.ts'

const mib = 1024 * 1024

const capabilities: Capabilities = {
  conditionalPut: true,
  equalParts: false,
  sequentialParts: false,
  minPartBytes: 1,
  maxPartBytes: 4000 * mib,
  maxParts: 50_000,
  readsAtOnce: 4,
  // The wire is verified by each block's MD5; the SHA-256 is noted in the block's id, not computed by the store.
  verifiesParts: false,
  objectLock: true,
}

/** Connects when it is used. Throws `request.invalid` for credentials of another form or account, `destination.denied` without any. */
export function openAzureDestination(
  uri: string,
  settings: AzureSettings,
  secrets: Record<string, string>,
  silenceSeconds: number,
): Destination {
  const store = openStore(uri, settings, secrets, silenceSeconds)
  const destination: Destination = {
    kind: 'azure',
    uri,
    capabilities,
    classes: classesOf(store),
    put: (key, body, options) => putObject(store, key, body, options),
    read: (key, options) => readObject(store, key, options),
    get: (key, options) => getObject(store, key, options),
    stat: (key, options) => statObject(store, key, options),
    list: (prefix, options) => listObjects(store, prefix, options),
    remove: (key, options) => removeObject(store, key, options),
    move: (key, tier, options) => moveObject(store, key, tier, options),
    openUpload: (key, options) => openUpload(store, key, options),
    putPart: (key, uploadId, part, options) => putPart(store, key, uploadId, part, options),
    listParts: (key, uploadId, options) => listParts(store, key, uploadId, options),
    completeUpload: (key, uploadId, parts, options) => completeUpload(store, key, uploadId, parts, options),
    abortUpload: (key, uploadId, options) => abortUpload(store, key, uploadId, options),
    listUploads: (prefix, options) => listUploads(store, prefix, options),
    check: (options = {}) => checkAzure(store, destination, options),
    // Idle connections of the SDK's agent keep no process alive and end by themselves.
    async close() {},
  }
  return destination
}
