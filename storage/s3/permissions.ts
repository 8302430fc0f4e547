/** What a write that was refused asked for beside writing: found out by opening an upload without it, which leaves nothing. */
import { hasCode } from '../../model/errors.ts'
import { needing } from '../check.ts'
import type { CallOptions } from '../destination.ts'
import type { Store, WrittenWith } from './store.ts'
import { abortUpload, openUpload } from './uploads.ts'

const asked: readonly { names: readonly (keyof WrittenWith)[]; permission: string }[] = [
  { names: ['ObjectLockMode', 'ObjectLockRetainUntilDate'], permission: 's3:PutObjectRetention' },
  { names: ['ObjectLockLegalHoldStatus'], permission: 's3:PutObjectLegalHold' },
  { names: ['Tagging'], permission: 's3:PutObjectTagging' },
  {
    names: ['ServerSideEncryption', 'SSEKMSKeyId'],
    permission: 'kms:GenerateDataKey and kms:Decrypt, on the key',
  },
]

/** The error with the permission that is missing, where it is not that of writing itself. */
export async function withMissingPermission(
  store: Store,
  key: string,
  error: unknown,
  options: CallOptions,
): Promise<unknown> {
  if (!hasCode(error, 'destination.denied')) return error
  const whole = store.written.artifact()
  for (const { names, permission } of asked) {
    if (names.every(name => whole[name] === undefined)) continue
    const without = Object.fromEntries(
      Object.entries(whole).filter(([name]) => !(names as readonly string[]).includes(name)),
    )
    if (!(await opens(store, key, without, options))) continue
    return needing(error, permission)
  }
  return error
}

async function opens(
  store: Store,
  key: string,
  written: WrittenWith,
  options: CallOptions,
): Promise<boolean> {
  try {
    await abortUpload(store, key, await openUpload(store, key, { ...options, written }), options)
    return true
  } catch (error) {
    if (hasCode(error, 'destination.denied')) return false
    throw error
  }
}
