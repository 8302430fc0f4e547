/** Whether a container takes, gives back, lists and removes what a backup needs, and locks it where that is wanted. */
import { randomBytes } from 'node:crypto'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import { archiveNote, checkDestination, needing, soonAfter } from '../check.ts'
import type { CallOptions, Destination } from '../destination.ts'
import { expectProtection } from '../locked.ts'
import { precheckFolder } from '../object-key.ts'
import { isArchive, thawHours } from './archive.ts'
import { putObject, removeBlob, statObject } from './objects.ts'
import type { Store, WrittenWith } from './store.ts'

export async function checkAzure(
  store: Store,
  destination: Destination,
  options: CallOptions,
): Promise<string[]> {
  try {
    await checkDestination(destination, options)
  } catch (error) {
    if (hasCode(error, 'destination.locked')) throw ofContainer(error)
    throw await missing(store, error, { tags: 't (tags)' }, options)
  }
  if (store.protects) await checkLocks(store, options)
  return archiveNote(store.storageClass, isArchive, thawHours)
}

/** A policy of the container itself also keeps the records of uploads. */
const ofContainer = (error: HoldfastError) =>
  new HoldfastError('destination.misconfigured', error.message, {
    hint: 'A policy or hold of the whole container keeps everything in it. Holdfast needs one with version-level immutability, and then locks by itself: --lock.',
  })

/** A policy that is not final and a legal hold can be taken off again: both are tried, and leave nothing. */
async function checkLocks(store: Store, options: CallOptions): Promise<void> {
  const key = `${precheckFolder}/${randomBytes(9).toString('hex')}-lock`
  const { immutabilityPolicy, legalHold } = store.written.lasting()
  const written: WrittenWith = {
    ...store.written.ours,
    ...(immutabilityPolicy === undefined
      ? {}
      : {
          immutabilityPolicy: {
            expiriesOn: new Date(Date.now() + 24 * 3600 * 1000),
            policyMode: 'Unlocked' as const,
          },
        }),
    ...(legalHold === undefined ? {} : { legalHold }),
  }
  const last = soonAfter(options.signal)
  const asked = { locked: immutabilityPolicy !== undefined, held: legalHold === true }
  try {
    await putObject(store, key, Buffer.from('lock'), { ...options, written })
  } catch (error) {
    const permission = 'i (immutable storage)'
    throw await missing(store, error, { immutabilityPolicy: permission, legalHold: permission }, options)
  }
  try {
    expectProtection(`${store.uri}/${key}`, (await statObject(store, key, options))?.protection, asked)
    if (asked.held) {
      await store.call('Set Blob Legal Hold', key, last, abortSignal =>
        store.blob(key).setLegalHold(false, { abortSignal }),
      )
    }
    if (asked.locked) {
      await store.call('Delete Blob Immutability Policy', key, last, abortSignal =>
        store.blob(key).deleteImmutabilityPolicy({ abortSignal }),
      )
    }
  } finally {
    await removeBlob(store, key, last)
  }
}

/** A write that was refused, but is not without what is named here: then that permission is the missing one. */
async function missing(
  store: Store,
  error: unknown,
  permissions: Partial<Record<keyof WrittenWith, string>>,
  options: CallOptions,
): Promise<unknown> {
  const [permission] = new Set(
    Object.entries(permissions).flatMap(([name, needed]) =>
      store.written.lasting()[name as keyof WrittenWith] === undefined ? [] : [needed],
    ),
  )
  if (!hasCode(error, 'destination.denied') || permission === undefined) return error
  const key = `${precheckFolder}/${randomBytes(9).toString('hex')}-plain`
  const last = soonAfter(options.signal)
  try {
    await putObject(store, key, Buffer.from('plain'), { ...last, written: store.written.ours })
    await removeBlob(store, key, last)
  } catch (other) {
    if (hasCode(other, 'destination.denied')) return error
    throw other
  }
  return needing(error, permission)
}
