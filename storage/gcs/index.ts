/** Google Cloud Storage: `gcs://bucket/prefix`. The bucket must be there; it is never made by us. */
import type { Capabilities, Destination } from '../destination.ts'
import { checkGcs } from './check.ts'
import type { GcsSettings } from './form.ts'
import { moveObject } from './move.ts'
import { listObjects, putObject, readObject, removeObject, statObject } from './objects.ts'
import { getObject } from './read.ts'
import { openStore } from './store.ts'
import {
  abortUpload,
  completeUpload,
  granuleBytes,
  listParts,
  listUploads,
  openUpload,
  putPart,
  type Uploads,
} from './uploads.ts'

const mib = 1024 * 1024

const capabilities: Capabilities = {
  conditionalPut: true,
  equalParts: false,
  sequentialParts: true,
  minPartBytes: granuleBytes,
  maxPartBytes: 1024 * mib,
  maxParts: 100_000,
  readsAtOnce: 4,
  verifiesParts: false,
  objectLock: true,
}

/** Connects when it is used. Throws `request.invalid` for credentials of another form. */
export function openGcsDestination(
  uri: string,
  settings: GcsSettings,
  secrets: Record<string, string>,
  silenceSeconds: number,
): Destination {
  const store = openStore(uri, settings, secrets, silenceSeconds)
  const uploads: Uploads = new Map()
  const destination: Destination = {
    kind: 'gcs',
    uri,
    capabilities,
    put: (key, body, options) => putObject(store, key, body, options),
    read: (key, options) => readObject(store, key, options),
    get: (key, options) => getObject(store, key, options),
    stat: (key, options) => statObject(store, key, options),
    list: (prefix, options) => listObjects(store, prefix, options),
    remove: (key, options) => removeObject(store, key, options),
    move: (key, storageClass, options) => moveObject(store, key, storageClass, options),
    openUpload: (key, options) => openUpload(store, key, options),
    putPart: (key, uploadId, part, options) => putPart(store, uploads, key, uploadId, part, options),
    listParts: (key, uploadId, options) => listParts(store, key, uploadId, options),
    completeUpload: (key, uploadId, parts, options) =>
      completeUpload(store, uploads, key, uploadId, parts, options),
    abortUpload: (key, uploadId, options) => abortUpload(store, uploads, key, uploadId, options),
    listUploads: (prefix, options) => listUploads(store, prefix, options),
    check: (options = {}) => checkGcs(store, destination, options),
    // Idle connections keep no process alive and end by themselves.
    close: async () => uploads.clear(),
  }
  return destination
}
