/** S3 and what speaks it: `s3://bucket/prefix`. The bucket must be there; it is never made by us. */
import type { Destination } from '../destination.ts'
import { checkS3 } from './check.ts'
import { classesOf } from './classes.ts'
import type { S3Settings } from './form.ts'
import { moveObject, usualLimits } from './move.ts'
import { listObjects, putObject, readObject, removeObject, statObject } from './objects.ts'
import { providerAt } from './providers.ts'
import { getObject } from './read.ts'
import { openStore } from './store.ts'
import { abortUpload, completeUpload, listParts, listUploads, openUpload, putPart } from './uploads.ts'

const mib = 1024 * 1024

/** Connects when it is used. Throws `request.invalid` for half a pair of keys. */
export function openS3Destination(
  uri: string,
  settings: S3Settings,
  secrets: Record<string, string>,
  silenceSeconds: number,
): Destination {
  const store = openStore(uri, settings, secrets, silenceSeconds)
  const provider = providerAt(settings.endpoint)
  const maxParts = settings.maxParts ?? provider.maxParts
  return {
    kind: 's3',
    uri,
    get capabilities() {
      return {
        conditionalPut: store.findings.conditionalPut,
        equalParts: provider.equalParts,
        sequentialParts: false,
        minPartBytes: 5 * mib,
        maxPartBytes: 5 * 1024 * mib,
        maxParts,
        readsAtOnce: 4,
        verifiesParts: true,
        objectLock: true,
      }
    },
    classes: classesOf(store),
    put: (key, body, options) => putObject(store, key, body, options),
    read: (key, options) => readObject(store, key, options),
    get: (key, options) => getObject(store, key, options),
    stat: (key, options) => statObject(store, key, options),
    list: (prefix, options) => listObjects(store, prefix, options),
    remove: (key, options) => removeObject(store, key, options),
    move: (key, storageClass, options) =>
      moveObject(store, key, storageClass, { ...usualLimits, maxParts }, options),
    openUpload: (key, options) => openUpload(store, key, options),
    putPart: (key, uploadId, part, options) => putPart(store, key, uploadId, part, options),
    listParts: (key, uploadId, options) => listParts(store, key, uploadId, options),
    completeUpload: (key, uploadId, parts, options) => completeUpload(store, key, uploadId, parts, options),
    abortUpload: (key, uploadId, options) => abortUpload(store, key, uploadId, options),
    listUploads: (prefix, options) => listUploads(store, prefix, options),
    check: (options = {}) => checkS3(store, options),
    async close() {
      store.client.destroy()
      store.patientClient.destroy()
    },
  }
}
