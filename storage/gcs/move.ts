/** Moving objects between classes: Google rewrites the object onto itself, which is whole under its name all the time. */
import { hasCode } from '../../model/errors.ts'
import { missingObject } from '../classes.ts'
import type { CallOptions } from '../destination.ts'
import { isProtected, lockedObject } from '../locked.ts'
import { checkKey } from '../object-key.ts'
import { isVersioned, listResources, lookAt, removeRaw } from './objects.ts'
import { type Resource, type Store, statOf } from './store.ts'

export async function moveObject(
  store: Store,
  key: string,
  storageClass: string,
  options: CallOptions = {},
): Promise<void> {
  checkKey(key)
  const where = `${store.uri}/${key}`
  const there = await lookAt(store, key, options)
  if (there === undefined) throw missingObject(where)
  const { protection } = statOf(key, there)
  // What is locked stays beside its copy, and is paid for until its end.
  if (isProtected(protection)) throw lockedObject(where, protection)
  let current = there.generation
  if (there.storageClass !== storageClass) {
    try {
      current = (await rewrite(store, key, storageClass, there, options)).generation
    } catch (error) {
      // It is another generation by now: of an earlier try whose answer was lost, or of somebody else's.
      if (!hasCode(error, 'destination.exists')) throw error
      const now = await lookAt(store, key, options)
      if (now?.storageClass !== storageClass) throw error
      current = now.generation
    }
  }
  if (current !== undefined) await removeOlder(store, key, current, options)
}

/** What is long is rewritten by several requests, each of which goes on where the one before it stopped. */
async function rewrite(
  store: Store,
  key: string,
  storageClass: string,
  { generation, contentType, metadata }: Resource,
  options: CallOptions,
): Promise<Resource> {
  const { kmsKeyName } = store.written.any.query
  const resource = {
    storageClass,
    ...(contentType === undefined ? {} : { contentType }),
    ...(metadata === undefined ? {} : { metadata }),
  }
  let rewriteToken: string | undefined
  for (;;) {
    const answer: { done?: boolean; rewriteToken?: string; resource?: Resource } = await store.call(
      {
        action: 'objects.rewrite',
        key,
        path: `${store.objectPath(key)}/rewriteTo${store.bucketPath}/${encodeURIComponent(store.fullKey(key))}`,
        query: {
          ...(generation === undefined
            ? {}
            : { ifSourceGenerationMatch: generation, ifGenerationMatch: generation }),
          ...(kmsKeyName === undefined ? {} : { destinationKmsKeyName: kmsKeyName }),
          ...(rewriteToken === undefined ? {} : { rewriteToken }),
        },
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: Buffer.from(JSON.stringify(resource)),
      },
      options,
      async answered => (await answered.json()) as object,
    )
    if (answer.done && answer.resource) return answer.resource
    rewriteToken = answer.rewriteToken
  }
}

/** In a bucket that keeps versions the object as it was is paid for, too. Generations grow. */
async function removeOlder(store: Store, key: string, current: string, options: CallOptions): Promise<void> {
  if (!(await isVersioned(store, options))) return
  for await (const { key: found, resource } of listResources(store, key, options, { versions: 'true' })) {
    const { generation } = resource
    if (found !== key || generation === undefined || BigInt(generation) >= BigInt(current)) continue
    await removeRaw(store, key, generation, options)
  }
}
