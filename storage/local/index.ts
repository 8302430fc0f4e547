/** A directory as a destination: `file:///var/backups`. The directory must be there; it is never made by us. */
import { fileURLToPath } from 'node:url'
import type { Capabilities, Destination } from '../destination.ts'
import { checkLocal } from './check.ts'
import { getObject, listObjects, putObject, readObject, removeObject, statObject } from './objects.ts'
import { abortUpload, completeUpload, listParts, listUploads, openUpload, putPart } from './uploads.ts'
import { openWriteback } from './writeback.ts'

/** Of every kind that keeps objects as files. */
export const localCapabilities: Capabilities = {
  conditionalPut: true,
  equalParts: false,
  sequentialParts: false,
  minPartBytes: 1,
  maxPartBytes: 1024 * 1024 * 1024,
  maxParts: 100_000,
  // The caller's hash is kept, not computed again: what is written is what is read on one machine that did not crash,
  // and after a crash the parts are read and hashed before they count.
  readsAtOnce: 1,
  verifiesParts: false,
  objectLock: false,
}

/** Touches nothing until it is used. */
export function openLocalDestination(uri: string): Destination {
  const root = fileURLToPath(uri)
  const writeback = openWriteback(uploadId => abortUpload(root, writeback, 'failed upload', uploadId))
  const destination: Destination = {
    kind: 'local',
    uri,
    capabilities: localCapabilities,
    put: (key, body, options) => putObject(root, key, body, options),
    read: (key, options) => readObject(root, key, options),
    get: (key, options) => getObject(root, key, options),
    stat: key => statObject(root, key),
    list: (prefix, options) => listObjects(root, prefix, options),
    remove: key => removeObject(root, key),
    openUpload: key => openUpload(root, key),
    putPart: (key, uploadId, part, options) => putPart(root, writeback, key, uploadId, part, options),
    listParts: (key, uploadId) => listParts(root, key, uploadId),
    completeUpload: (key, uploadId, parts, options) =>
      completeUpload(root, writeback, key, uploadId, parts, options),
    abortUpload: (key, uploadId) => abortUpload(root, writeback, key, uploadId),
    listUploads: (prefix, options) => listUploads(root, prefix, options),
    check: (options = {}) => checkLocal(root, destination, options),
    close: () => writeback.close(),
  }
  return destination
}
