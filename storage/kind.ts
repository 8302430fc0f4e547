/** What people say of a destination: the form of each kind's URI, settings and credentials. Nothing here touches a store. */
import type { z } from 'zod'
import { HoldfastError } from '../model/errors.ts'
import { type ObjectLock, type Tier, tierList } from '../model/keeping.ts'
import type { DestinationKind, Json } from '../model/types.ts'
import { segmentTrouble } from './object-key.ts'

/** What may be said beside the URI: flags of the CLI, fields of the API. Each kind takes its own and refuses the others. */
export interface DestinationExtras {
  endpoint?: string | undefined
  region?: string | undefined
  pathStyle?: boolean | undefined
  account?: string | undefined
  maxParts?: number | undefined
  checksums?: 'sha256' | 'none' | undefined
  storageClass?: string | undefined
  encryption?: 'AES256' | 'aws:kms' | 'aws:kms:dsse' | undefined
  kmsKeyId?: string | undefined
  tags?: Record<string, string> | undefined
  metadata?: Record<string, string> | undefined
  encryptionScope?: string | undefined
  objectLock?: ObjectLock | undefined
  legalHold?: boolean | undefined
  tiers?: Tier[] | undefined
}

/** Of these, another value means another place; the others say how it is written there. */
export const placeNames = ['endpoint', 'region', 'pathStyle', 'account'] as const satisfies Names
const extraNames = [
  ...placeNames,
  'maxParts',
  'checksums',
  'storageClass',
  'encryption',
  'kmsKeyId',
  'tags',
  'metadata',
  'encryptionScope',
  'objectLock',
  'legalHold',
  'tiers',
] as const satisfies Names
type Names = readonly (keyof DestinationExtras)[]

export interface Place {
  /** Canonical; never credentials. */
  uri: string
  settings: Record<string, Json>
}

/** What a request says of the place and its options, and the rest: credentials. */
export function splitExtras<T extends object>(
  said: T,
): {
  extras: Pick<T, keyof T & keyof DestinationExtras>
  credentials: Omit<T, keyof DestinationExtras>
} {
  const isExtra = (name: string) => (extraNames as readonly string[]).includes(name)
  const entries = Object.entries(said)
  return {
    extras: Object.fromEntries(entries.filter(([name]) => isExtra(name))) as never,
    credentials: Object.fromEntries(entries.filter(([name]) => !isExtra(name))) as never,
  }
}

/** One kind's form. */
export interface KindForm {
  kind: DestinationKind
  /** In words, for "… has no meaning for …". */
  title: string
  /** What may stand before the colon of its URI, lower case. */
  schemes: readonly string[]
  /** `rest` is what follows the colon. Throws `request.invalid`. */
  parse(scheme: string, rest: string, extras: DestinationExtras): Place
  /** Fields of its credentials. */
  secretFields: readonly string[]
  /** What the credentials themselves say of the place. */
  placeIn?(secrets: Record<string, string>): DestinationExtras
  /** Throws `request.invalid`, naming the field, for credentials that no such store can have given. */
  checkSecrets(secrets: Record<string, string>): void
}

/** `classes`: of the store, from the warmest to the coldest; `others`: it may have some that nobody here knows; `archive`: the first that cannot be read. */
export const tiersAmong = (
  classes: readonly string[],
  { others, archive }: { others: boolean; archive?: string },
) =>
  tierList.superRefine((tiers, issues) => {
    for (const [index, tier] of tiers.entries()) {
      const say = (field: keyof Tier, message: string) =>
        issues.addIssue({ code: 'custom', path: [index, field], message })
      const before = tiers[index - 1]
      const rank = classes.indexOf(tier.class)
      if (rank < 0 && !others) say('class', `it must be one of ${classes.join(', ')}`)
      if (before === undefined) continue
      if (tier.afterDays <= before.afterDays) say('afterDays', 'each tier comes after the one before it')
      const warmer = rank >= 0 && classes.indexOf(before.class) >= rank
      if (warmer || tier.class === before.class) say('class', 'each tier is colder than the one before it')
      if (before.class === archive) say('class', `what lies in ${archive} cannot be moved on`)
    }
  })

/** Where a class is changed by copying, what is locked stays beside its copy. Throws `request.invalid`. */
export function refuseTiersUnderLock(
  settings: Pick<DestinationExtras, 'tiers' | 'objectLock' | 'legalHold'>,
) {
  if (settings.tiers === undefined) return
  if (settings.objectLock === undefined && settings.legalHold !== true) return
  throw new HoldfastError(
    'request.invalid',
    "The destination's tiers cannot be used: what is locked or held cannot be moved to another class of this store.",
    { context: { field: 'tiers' } },
  )
}

/** The text itself is not repeated: it may hold a password. */
export function invalidUri(why: string): never {
  throw new HoldfastError('request.invalid', `The destination URI cannot be used: ${why}.`, {
    context: { field: 'uri' },
  })
}

/** `why` must not repeat the value. */
export function invalidSecret(field: string, why: string): never {
  throw new HoldfastError('request.invalid', `The destination's ${field} cannot be used: ${why}.`, {
    context: { field },
  })
}

/** `//bucket/prefix` of object stores. `isName`: whether the store could have such a bucket; `called`: its word for one. */
export function parseBucket(
  scheme: string,
  rest: string,
  { called, isName, names }: { called: string; isName: RegExp; names: string },
): { bucket: string; prefix: string } {
  const match = /^\/\/([^/]*)(?:\/(.*))?$/.exec(rest)
  if (!match) invalidUri(`it must look like ${scheme}://${called}/prefix`)
  const [, bucket = '', rawPrefix = ''] = match
  if (bucket.includes('@')) invalidUri('credentials do not belong into the URI; give them as secrets')
  if (!isName.test(bucket)) invalidUri(`the ${called} name must have ${names}`)
  if (/[?#]/.test(rawPrefix)) {
    invalidUri('settings do not belong into the URI; "?" and "#" cannot be in a prefix')
  }
  const prefix = rawPrefix.replace(/\/+$/, '')
  const trouble = prefix === '' ? undefined : prefix.split('/').map(segmentTrouble).find(Boolean)
  if (trouble) invalidUri(`the prefix ${trouble}`)
  // Keys below it have to fit into a store's 1,024 bytes.
  if (Buffer.byteLength(prefix) > 512) invalidUri('the prefix is over 512 bytes')
  return { bucket, prefix }
}

export const bucketUri = (scheme: string, { bucket, prefix }: { bucket: string; prefix: string }): string =>
  prefix === '' ? `${scheme}://${bucket}` : `${scheme}://${bucket}/${prefix}`

/** Throws `request.invalid` naming the setting. */
export function parseSettings<T>(schema: z.ZodType<T>, given: object, title: string): T {
  const said = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  const parsed = schema.safeParse(said)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  if (issue?.code === 'unrecognized_keys') {
    const field = issue.keys[0] ?? 'setting'
    throw new HoldfastError(
      'request.invalid',
      `The destination URI cannot be used: ${field} has no meaning for ${title}.`,
      { context: { field } },
    )
  }
  const field = issue?.path.join('.') || 'settings'
  const why = issue?.code === 'invalid_key' ? issue.issues[0]?.message : issue?.message
  throw new HoldfastError('request.invalid', `The destination's ${field} cannot be used: ${why}.`, {
    context: { field },
  })
}

/** An address as it is stored: no slash at its end. Throws `request.invalid` when it holds more than an address. */
export function plainEndpoint(endpoint: string): string {
  const url = new URL(endpoint)
  if (url.username || url.password || url.search || url.hash) {
    throw new HoldfastError(
      'request.invalid',
      "The destination's endpoint cannot be used: it must be scheme, host and port only, without credentials.",
      { context: { field: 'endpoint' } },
    )
  }
  return endpoint.replace(/\/+$/, '')
}
