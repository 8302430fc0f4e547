/** The way to one bucket by Google's JSON API: tokens, requests with our tries and errors, and the full names. */
import { GoogleAuth } from 'google-auth-library'
import { HoldfastError } from '../../model/errors.ts'
import { lockEnd } from '../../model/keeping.ts'
import type { CallOptions, ObjectStat, Protection } from '../destination.ts'
import { tryCalls } from '../retry-calls.ts'
import { answered } from '../silence.ts'
import { answerError, networkError } from './errors.ts'
import { type GcsSettings, readServiceAccountKey } from './form.ts'
import { type Answer, askGoogle } from './http.ts'

/** Methods of the API, and the permission that each needs. */
const permissions = {
  'objects.insert': 'storage.objects.create',
  'objects.rewrite': 'storage.objects.create',
  'objects.get': 'storage.objects.get',
  'objects.list': 'storage.objects.list',
  'objects.delete': 'storage.objects.delete',
  'buckets.get': 'storage.buckets.get',
} as const
export type Action = keyof typeof permissions

export interface Call {
  action: Action
  /** For words. */
  key: string
  /** Below the endpoint, or the whole address of a session. */
  path: string | URL
  query?: Record<string, string>
  method?: 'GET' | 'POST' | 'PUT' | 'DELETE'
  headers?: Record<string, string>
  body?: Uint8Array
  /** Other statuses that are answers, not errors. */
  expects?: readonly number[]
  /** A session's address is its own token; it is asked without ours. */
  anonymous?: boolean
}

/** What an object is written with, beside its bytes. */
export interface WrittenWith {
  /** Of the resource. */
  fields: Pick<Resource, 'metadata' | 'storageClass' | 'retention' | 'temporaryHold'>
  query: { kmsKeyName?: string }
}

export interface Store {
  /** Without credentials. */
  uri: string
  silenceSeconds: number
  /** By what it is: of ours (an upload's record), an object, one that belongs to a backup, an artifact. */
  written: { ours: WrittenWith; any: WrittenWith; lasting(): WrittenWith; artifact(): WrittenWith }
  /** Objects are locked or held. */
  protects: boolean
  /** `/storage/v1/b/<bucket>/o/<name>` */
  objectPath(key: string): string
  /** `/b/<bucket>/o`, below /storage/v1 or /upload/storage/v1. */
  bucketPath: string
  fullKey(key: string): string
  /** undefined for names outside our prefix. */
  ownKey(name: string): string | undefined
  /** What was found out: the bucket answered once; it keeps old versions (undefined: not asked yet). */
  findings: { bucketSeen: boolean; versioned: boolean | undefined }
  /** One request, once, with what is made of its answer. Throws in our words for an answer that is none. */
  once<T>(call: Call, options: CallOptions, read: (answer: Answer) => Promise<T>): Promise<T>
  /** The same up to four times while the error passes by itself. */
  call<T>(
    call: Call,
    options: CallOptions,
    read: (answer: Answer) => Promise<T>,
    /** Is told the number of each try as it begins. */
    seen?: { attempt: number },
  ): Promise<T>
}

export function openStore(
  uri: string,
  settings: GcsSettings,
  secrets: Record<string, string>,
  silenceSeconds: number,
): Store {
  const match = /^gcs:\/\/([^/]+)(?:\/(.+))?$/.exec(uri)
  const bucket = match?.[1]
  if (!bucket) throw new HoldfastError('request.invalid', 'The destination URI is not gcs://bucket/prefix.')
  const base = match[2] === undefined ? '' : `${match[2]}/`
  const endpoint = settings.endpoint ?? 'https://storage.googleapis.com'
  const tokens = tokensFor(uri, endpoint, secrets)
  const findings: Store['findings'] = { bucketSeen: false, versioned: undefined }

  const once: Store['once'] = (call, { signal }, read) => {
    const { action, key, body } = call
    const doing = `${action} on ${uri}${key === '' ? '' : `/${key}`}`
    const url = typeof call.path === 'string' ? new URL(`${endpoint}${call.path}`) : call.path
    for (const [name, value] of Object.entries(call.query ?? {})) url.searchParams.set(name, value)
    return answered(
      { doing, silenceSeconds, bytes: body?.length ?? 0, signal },
      async stopped => {
        const authorization = call.anonymous ? {} : await tokens(doing)
        const answer = await askGoogle(url, {
          method: call.method ?? 'GET',
          headers: { 'accept-encoding': 'identity', ...authorization, ...call.headers },
          body,
          signal: stopped,
        })
        if (answer.ok && !call.anonymous) findings.bucketSeen = true
        if (answer.ok || call.expects?.includes(answer.status)) return await read(answer)
        const ofBucket =
          !call.anonymous && !['objects.get', 'objects.delete', 'objects.rewrite'].includes(action)
        throw await answerError(answer, { doing, permission: permissions[action], ofBucket })
      },
      error => networkError(error, doing),
    )
  }

  const objects = `/b/${encodeURIComponent(bucket)}/o`
  return {
    uri,
    silenceSeconds,
    written: writtenWith(settings),
    protects: settings.objectLock !== undefined || settings.legalHold === true,
    bucketPath: objects,
    objectPath: key => `/storage/v1${objects}/${encodeURIComponent(`${base}${key}`)}`,
    fullKey: key => `${base}${key}`,
    ownKey: name => (name.startsWith(base) ? name.slice(base.length) : undefined),
    findings,
    once,
    call: (call, options, read, seen) =>
      tryCalls(options.signal, async attempt => {
        if (seen) seen.attempt = attempt
        return await once(call, options, read)
      }),
  }
}

function writtenWith(settings: GcsSettings): Store['written'] {
  const { storageClass, kmsKeyId, metadata, objectLock, legalHold } = settings
  const query = kmsKeyId === undefined ? {} : { kmsKeyName: kmsKeyId }
  const any = metadata === undefined ? {} : { metadata }
  const lasting = (): WrittenWith['fields'] => ({
    ...any,
    // Counted from each object's own beginning.
    ...(objectLock === undefined
      ? {}
      : {
          retention: {
            mode: objectLock.mode === 'governance' ? ('Unlocked' as const) : ('Locked' as const),
            retainUntilTime: lockEnd(objectLock).toISOString(),
          },
        }),
    ...(legalHold === true ? { temporaryHold: true } : {}),
  })
  return {
    ours: { fields: {}, query },
    any: { fields: any, query },
    lasting: () => ({ fields: lasting(), query }),
    artifact: () => ({
      fields: { ...lasting(), ...(storageClass === undefined ? {} : { storageClass }) },
      query,
    }),
  }
}

type Tokens = (doing: string) => Promise<Record<string, string>>

/** A token never goes over plain HTTP: whoever listens could use it anywhere. */
function tokensFor(uri: string, endpoint: string, secrets: Record<string, string>): Tokens {
  if (endpoint.startsWith('http:')) return async () => ({})
  const { serviceAccountKey } = secrets
  const auth = new GoogleAuth({
    scopes: ['https://www.googleapis.com/auth/devstorage.read_write'],
    ...(serviceAccountKey ? { credentials: readServiceAccountKey(serviceAccountKey) } : {}),
  })
  return async doing => {
    try {
      const headers = await auth.getRequestHeaders()
      return Object.fromEntries(headers.entries())
    } catch (error) {
      const said = error instanceof Error ? (error.message.split('\n', 1)[0] ?? '') : String(error)
      if (/ENOTFOUND|ECONN|ETIMEDOUT|EAI_AGAIN|socket hang up|fetch failed/.test(said)) {
        throw new HoldfastError('destination.unreachable', `${doing} failed: Google gives no token: ${said}`)
      }
      throw new HoldfastError(
        'destination.denied',
        `Getting a token for ${uri} failed: ${said.slice(0, 300)}`,
        {
          hint: serviceAccountKey
            ? 'Google does not take this service account key: give a fresh one.'
            : 'Give serviceAccountKey, or run where Google has default credentials (GOOGLE_APPLICATION_CREDENTIALS, workload identity, a machine of Google).',
        },
      )
    }
  }
}

/** An object as the API describes it. */
export interface Resource {
  name: string
  size?: string
  updated?: string
  timeCreated?: string
  generation?: string
  md5Hash?: string
  contentType?: string
  metadata?: Record<string, string>
  storageClass?: string
  retention?: { mode: 'Unlocked' | 'Locked'; retainUntilTime: string }
  /** What the bucket's own policy makes of it, too. */
  retentionExpirationTime?: string
  temporaryHold?: boolean
  eventBasedHold?: boolean
}

function protectionOf(found: Resource): { protection?: Protection } {
  const ends = [found.retention?.retainUntilTime, found.retentionExpirationTime]
    .filter(end => end !== undefined)
    .map(end => Date.parse(end))
  const legalHold = found.temporaryHold === true || found.eventBasedHold === true
  if (ends.length === 0 && !legalHold) return {}
  return {
    protection: {
      ...(ends.length === 0 ? {} : { lockedUntil: new Date(Math.max(...ends)) }),
      ...(legalHold ? { legalHold } : {}),
    },
  }
}

export const statOf = (key: string, found: Resource): ObjectStat => ({
  key,
  bytes: Number(found.size ?? 0),
  modifiedAt: new Date(found.updated ?? 0),
  ...(found.storageClass === undefined ? {} : { storageClass: found.storageClass }),
  ...protectionOf(found),
  ...(found.generation === undefined ? {} : { version: found.generation, tag: found.generation }),
})
