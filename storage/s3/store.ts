/** The way to one bucket: clients, calls with our errors, and the full keys. */
import { type PutObjectCommandInput, S3Client, type S3ClientConfig } from '@aws-sdk/client-s3'
import { HoldfastError } from '../../model/errors.ts'
import { lockEnd } from '../../model/keeping.ts'
import type { CallOptions } from '../destination.ts'
import { storeError } from './errors.ts'
import type { S3Settings } from './form.ts'
import { providerAt } from './providers.ts'

/** What stores turn out not to have, found out by the first refusal. */
interface StoreFindings {
  /** If-None-Match is honoured. */
  conditionalPut: boolean
  /** x-amz-checksum-sha256 is taken. Without it each part is still verified by the signature's hash of the body. */
  checksums: boolean
  /** Old versions are kept: removing means removing each. undefined: not asked yet. */
  versioned: boolean | undefined
  /** The bucket answered once; from then on a bare 404 means the object. */
  bucketSeen: boolean
}

export interface Store {
  bucket: string
  /** Without credentials. */
  uri: string
  client: S3Client
  /** For calls during which a store may be silent for minutes while it joins parts. */
  patientClient: S3Client
  findings: StoreFindings
  /** Headers that an object is written with: any, one that belongs to a backup, an artifact. */
  written: { any(): WrittenWith; lasting(): WrittenWith; artifact(): WrittenWith }
  /** Objects are locked or held: the store then wants a checksum of whatever is sent. */
  protects: boolean
  /** Of artifacts, where the destination names one. */
  storageClass: string | undefined
  fullKey(key: string): string
  /** undefined for keys outside our prefix. */
  ownKey(fullKey: string | undefined): string | undefined
  /** Runs one request and translates its error; rethrows the signal's reason when it was aborted. */
  call<T>(action: Action, key: string, options: CallOptions, request: (http: Http) => Promise<T>): Promise<T>
  /** What `call` does to an error, for streams. */
  explain(action: Action, key: string, error: unknown): unknown
}

export type WrittenWith = Pick<
  PutObjectCommandInput,
  | 'StorageClass'
  | 'ServerSideEncryption'
  | 'SSEKMSKeyId'
  | 'Tagging'
  | 'Metadata'
  | 'ObjectLockMode'
  | 'ObjectLockRetainUntilDate'
  | 'ObjectLockLegalHoldStatus'
>

function writtenWith(settings: S3Settings): Store['written'] {
  const { storageClass, encryption, kmsKeyId, tags, metadata, objectLock, legalHold } = settings
  const all: WrittenWith = {
    ...(encryption === undefined ? {} : { ServerSideEncryption: encryption }),
    ...(kmsKeyId === undefined ? {} : { SSEKMSKeyId: kmsKeyId }),
    ...(tags === undefined ? {} : { Tagging: new URLSearchParams(tags).toString() }),
    ...(metadata === undefined ? {} : { Metadata: metadata }),
  }
  // Names of other stores' classes are as good as Amazon's.
  const named = storageClass as WrittenWith['StorageClass']
  const lasting = (): WrittenWith => ({
    ...all,
    // Counted from each object's own beginning.
    ...(objectLock === undefined
      ? {}
      : {
          ObjectLockMode: objectLock.mode === 'governance' ? 'GOVERNANCE' : 'COMPLIANCE',
          ObjectLockRetainUntilDate: lockEnd(objectLock),
        }),
    ...(legalHold === true ? { ObjectLockLegalHoldStatus: 'ON' } : {}),
  })
  return {
    any: () => all,
    lasting,
    artifact: () => ({ ...lasting(), ...(named === undefined ? {} : { StorageClass: named }) }),
  }
}

interface Http {
  abortSignal?: AbortSignal
}

/** S3 actions we use, and the permission each needs. */
const permissions = {
  PutObject: 's3:PutObject',
  GetObject: 's3:GetObject',
  HeadObject: 's3:GetObject',
  HeadBucket: 's3:ListBucket',
  ListObjectsV2: 's3:ListBucket',
  ListObjectVersions: 's3:ListBucketVersions',
  CopyObject: 's3:PutObject',
  DeleteObject: 's3:DeleteObject',
  DeleteObjectVersion: 's3:DeleteObjectVersion',
  GetBucketVersioning: 's3:GetBucketVersioning',
  GetObjectLockConfiguration: 's3:GetBucketObjectLockConfiguration',
  GetObjectRetention: 's3:GetObjectRetention',
  RestoreObject: 's3:RestoreObject',
  CreateMultipartUpload: 's3:PutObject',
  UploadPart: 's3:PutObject',
  UploadPartCopy: 's3:PutObject',
  CompleteMultipartUpload: 's3:PutObject',
  ListParts: 's3:ListMultipartUploadParts',
  ListMultipartUploads: 's3:ListBucketMultipartUploads',
  AbortMultipartUpload: 's3:AbortMultipartUpload',
} as const
type Action = keyof typeof permissions

const connectSeconds = 5
const joiningSeconds = 15 * 60
const idleConnectionSeconds = 30
const maxSockets = 32

export function openStore(
  uri: string,
  settings: S3Settings,
  secrets: Record<string, string>,
  silenceSeconds: number,
): Store {
  const match = /^s3:\/\/([^/]+)(?:\/(.+))?$/.exec(uri)
  const bucket = match?.[1]
  if (!bucket) throw new HoldfastError('request.invalid', 'The destination URI is not s3://bucket/prefix.')
  const base = match[2] === undefined ? '' : `${match[2]}/`

  const config: S3ClientConfig = {
    ...(settings.endpoint === undefined ? {} : { endpoint: settings.endpoint }),
    ...(settings.region === undefined ? {} : { region: settings.region }),
    ...credentialsFrom(secrets),
    forcePathStyle: settings.pathStyle,
    maxAttempts: 4,
    retryMode: 'standard',
    // We give each checksum ourselves, from a hash that was made anyway.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // With it the SDK opens a new connection (and TLS session) for every part.
    expectContinueHeader: false,
  }
  const clientWith = (seconds: number) => {
    // Idle connections of a destination that nobody uses any more go by themselves.
    const agent = { keepAlive: true, maxSockets, timeout: idleConnectionSeconds * 1000 }
    return new S3Client({
      ...config,
      requestHandler: {
        connectionTimeout: connectSeconds * 1000,
        socketTimeout: seconds * 1000,
        httpAgent: agent,
        httpsAgent: agent,
      },
    })
  }

  const hidden = Object.values(secrets).filter(secret => secret.length > 0)
  const explain = (action: Action, key: string, error: unknown) =>
    storeError(error, {
      doing: `${action} on ${uri}${key === '' ? '' : `/${key}`}`,
      permission: permissions[action],
      secrets: hidden,
    })
  const findings: StoreFindings = {
    conditionalPut: providerAt(settings.endpoint).conditionalPut,
    checksums: settings.checksums !== 'none',
    versioned: undefined,
    bucketSeen: false,
  }

  return {
    bucket,
    uri,
    client: clientWith(silenceSeconds),
    patientClient: clientWith(joiningSeconds),
    findings,
    written: writtenWith(settings),
    protects: settings.objectLock !== undefined || settings.legalHold === true,
    storageClass: settings.storageClass,
    fullKey: key => `${base}${key}`,
    ownKey: fullKey => (fullKey?.startsWith(base) ? fullKey.slice(base.length) : undefined),
    async call(action, key, { signal }, request) {
      signal?.throwIfAborted()
      try {
        const answer = await request(signal ? { abortSignal: signal } : {})
        findings.bucketSeen = true
        return answer
      } catch (error) {
        signal?.throwIfAborted()
        throw explain(action, key, error)
      }
    },
    explain,
  }
}

/** Without keys: the SDK's own chain (environment, profile, instance role). */
function credentialsFrom(secrets: Record<string, string>): Pick<S3ClientConfig, 'credentials'> {
  const { accessKeyId, secretAccessKey, sessionToken } = secrets
  if (!accessKeyId || !secretAccessKey) return {}
  return {
    credentials: { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) },
  }
}

/**
 * Middleware for the `build` step: the body's SHA-256 is known already, so the signature takes it instead of computing it
 * again; the store verifies the body by it, also where it knows no checksum headers.
 */
export const knownSha256 =
  (sha256: string) =>
  <Args extends { request: unknown }, Answer>(next: (args: Args) => Promise<Answer>) =>
  (args: Args): Promise<Answer> => {
    const { request } = args
    if (typeof request === 'object' && request !== null && 'headers' in request) {
      Object.assign(request.headers as object, { 'x-amz-content-sha256': sha256 })
    }
    return next(args)
  }

/** Runs the request with an optional header; if the store says that it has no such thing, once more without, and for good. */
export async function whereKnown<T>(
  findings: StoreFindings,
  name: 'conditionalPut' | 'checksums',
  request: (known: boolean) => Promise<T>,
): Promise<T> {
  const known = findings[name]
  try {
    return await request(known)
  } catch (error) {
    if (!known || !refusesHeader(error, name)) throw error
    findings[name] = false
    return await request(false)
  }
}

function refusesHeader(error: unknown, name: 'conditionalPut' | 'checksums'): boolean {
  if (!(error instanceof HoldfastError)) return false
  const { storeCode, status } = error.context
  if (storeCode === 'NotImplemented' || status === 501) return true
  const header = name === 'checksums' ? /x-amz-(sdk-)?checksum/i : /if-none-match/i
  return status === 400 && header.test(error.message)
}
