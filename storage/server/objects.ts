/** Objects of a `server` destination: files below its root, named by their keys, as storage/local has them. */
import type { Readable } from 'node:stream'
import { HoldfastError } from '../../model/errors.ts'
import type { CallOptions, ObjectStat } from '../destination.ts'
import { expectSmall, maxSmallBytes, tooLargeToRead } from '../limits.ts'
import { scratchName } from '../local/files.ts'
import { ownObject } from '../lost-put.ts'
import { checkKey } from '../object-key.ts'
import { readRange } from '../resuming-read.ts'
import { ask, type Store, seen } from './ask.ts'
import { explained } from './errors.ts'
import { openAt } from './read.ts'
import { exits, objectsScript as script } from './shell.ts'

export async function putObject(
  store: Store,
  key: string,
  body: Uint8Array,
  options: CallOptions & { ifAbsent?: boolean } = {},
): Promise<ObjectStat> {
  checkKey(key)
  options.signal?.throwIfAborted()
  expectSmall(key, body)
  const { exit, stdout, asked } = await ask(store, {
    ...options,
    doing: `Writing "${key}"`,
    script,
    words: ['put', key, String(body.length), scratchName('put'), options.ifAbsent ? 'exclusive' : ''],
    input: body,
    allow: [exits.exists],
  })
  if (exit !== exits.exists) return { key, ...seen(stdout.toString('latin1')) }
  const ours =
    asked > 1 &&
    (await ownObject(
      body,
      () => statObject(store, key),
      () => readObject(store, key),
    ))
  if (ours) return ours
  throw new HoldfastError('destination.exists', `"${key}" is in ${store.uri} already.`)
}

export async function readObject(
  store: Store,
  key: string,
  options: CallOptions = {},
): Promise<Uint8Array | undefined> {
  checkKey(key)
  const doing = `Reading "${key}"`
  const { exit, stdout } = await ask(store, {
    ...options,
    doing,
    script,
    words: ['get', key, '0', '-1', String(maxSmallBytes)],
    allow: [exits.absent, exits.tooLarge],
  })
  if (exit === exits.absent) return undefined
  const begins = stdout.indexOf(10) + 1
  const { bytes } = seen(stdout.subarray(0, begins).toString('latin1'))
  const tooLarge = tooLargeToRead(`"${key}" in ${store.uri}`, bytes)
  if (tooLarge) throw tooLarge
  if (stdout.length - begins !== bytes) {
    throw new HoldfastError(
      'destination.unreachable',
      `${doing} in ${store.uri} failed: ${stdout.length - begins} of ${bytes} bytes came.`,
    )
  }
  return stdout.subarray(begins)
}

export async function statObject(
  store: Store,
  key: string,
  options: CallOptions = {},
): Promise<ObjectStat | undefined> {
  checkKey(key)
  const { exit, stdout } = await ask(store, {
    ...options,
    doing: `Looking at "${key}"`,
    script,
    words: ['stat', key],
    allow: [exits.absent],
  })
  return exit === exits.absent ? undefined : { key, ...seen(stdout.toString('latin1')) }
}

export async function getObject(
  store: Store,
  key: string,
  options: CallOptions & { offset?: number; length?: number } = {},
): Promise<Readable> {
  checkKey(key)
  return await readRange(
    {
      where: `${store.uri}/${key}`,
      open: (position, end, tag) => openAt(store, key, options, position, end, tag),
      explain: error => explained(store, `Reading "${key}"`, error),
      isThere: async () => (await statObject(store, key, options)) !== undefined,
      // Such an opening has nothing to read, and is none.
      isPastEnd: () => false,
    },
    options,
  )
}

export async function removeObject(store: Store, key: string, options: CallOptions = {}): Promise<void> {
  checkKey(key)
  await ask(store, {
    ...options,
    doing: `Removing "${key}"`,
    script,
    words: ['remove', key],
    allow: [exits.absent],
  })
}
