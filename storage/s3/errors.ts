/**
 * What a store's answers mean. Names and statuses of S3 and of what speaks it (MinIO, Ceph, R2, B2, Versity …).
 * The SDK's error is never kept as a cause: it carries the request with its headers.
 */
import { type ErrorCode, HoldfastError } from '../../model/errors.ts'

/** The parts of an SDK or socket error that are looked at. */
interface StoreAnswer {
  /** The store's code (`NoSuchKey`), or the socket's (`ECONNREFUSED`). */
  name: string
  /** HTTP status; 0 when there was no answer. */
  status: number
  message: string
  attempts: number
  /** The bucket's region, if the store says that we are in the wrong one. */
  region: string | undefined
}

const noAnswer = { status: 0, attempts: 1, region: undefined }

function answerOf(error: unknown): StoreAnswer {
  const fields: Record<string, unknown> = typeof error === 'object' && error !== null ? { ...error } : {}
  const metadata: Record<string, unknown> =
    typeof fields.$metadata === 'object' && fields.$metadata !== null ? { ...fields.$metadata } : {}
  const text = (value: unknown) => (typeof value === 'string' && value !== '' ? value : undefined)
  const number = (value: unknown) => (typeof value === 'number' ? value : undefined)
  const named = error instanceof Error ? error.name : undefined
  const message = error instanceof Error ? error.message : String(error)
  if (message.startsWith('Region is missing')) return { ...noAnswer, name: 'RegionMissing', message }
  return {
    // `Code` is what the body said, where the SDK has no class of its own for it.
    name: text(fields.Code) ?? text(fields.code) ?? (named !== 'Error' ? named : undefined) ?? 'UnknownError',
    status: number(metadata.httpStatusCode) ?? 0,
    message: message.slice(0, 500),
    attempts: number(metadata.attempts) ?? 1,
    region: text(fields.Region),
  }
}

const byName: Record<string, ErrorCode> = {
  AccessDenied: 'destination.denied',
  AllAccessDisabled: 'destination.denied',
  AccountProblem: 'destination.denied',
  InvalidAccessKeyId: 'destination.denied',
  SignatureDoesNotMatch: 'destination.denied',
  ExpiredToken: 'destination.denied',
  InvalidToken: 'destination.denied',
  TokenRefreshRequired: 'destination.denied',
  CredentialsProviderError: 'destination.denied',
  TokenProviderError: 'destination.denied',
  NoSuchBucket: 'destination.missing',
  InvalidBucketName: 'destination.missing',
  NoSuchKey: 'destination.object-missing',
  // What the SDK calls a 404 without a body (HEAD).
  NotFound: 'destination.object-missing',
  NoSuchVersion: 'destination.object-missing',
  InvalidObjectState: 'destination.archived',
  NoSuchUpload: 'destination.upload-gone',
  InvalidPart: 'destination.upload-gone',
  PreconditionFailed: 'destination.exists',
  RegionMissing: 'destination.misconfigured',
  PermanentRedirect: 'destination.misconfigured',
  TemporaryRedirect: 'destination.misconfigured',
  AuthorizationHeaderMalformed: 'destination.misconfigured',
  IllegalLocationConstraintException: 'destination.misconfigured',
  RequestTimeTooSkewed: 'destination.misconfigured',
  SlowDown: 'destination.throttled',
  SlowDownRead: 'destination.throttled',
  SlowDownWrite: 'destination.throttled',
  ThrottlingException: 'destination.throttled',
  Throttling: 'destination.throttled',
  TooManyRequests: 'destination.throttled',
  RequestLimitExceeded: 'destination.throttled',
  BandwidthLimitExceeded: 'destination.throttled',
  ServiceUnavailable: 'destination.throttled',
  OperationAborted: 'destination.throttled',
  ConditionalRequestConflict: 'destination.throttled',
  BadDigest: 'destination.corrupted',
  InvalidDigest: 'destination.corrupted',
  XAmzContentSHA256Mismatch: 'destination.corrupted',
  XAmzContentChecksumMismatch: 'destination.corrupted',
  IncompleteBody: 'destination.unreachable',
  RequestTimeout: 'destination.unreachable',
  TimeoutError: 'destination.unreachable',
  QuotaExceeded: 'destination.full',
  StorageFull: 'destination.full',
  XMinioStorageFull: 'destination.full',
  XMinioAdminBucketQuotaExceeded: 'destination.full',
  InsufficientStorage: 'destination.full',
  InvalidRange: 'destination.misconfigured',
  EntityTooLarge: 'destination.misconfigured',
}

const byStatus: Record<number, ErrorCode> = {
  301: 'destination.misconfigured',
  307: 'destination.misconfigured',
  400: 'destination.misconfigured',
  401: 'destination.denied',
  403: 'destination.denied',
  404: 'destination.misconfigured',
  405: 'destination.misconfigured',
  409: 'destination.throttled',
  412: 'destination.exists',
  429: 'destination.throttled',
  501: 'destination.misconfigured',
  503: 'destination.throttled',
  507: 'destination.full',
}

const socketErrors = [
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'ETIMEDOUT',
  'EPIPE',
  'ERR_STREAM_PREMATURE_CLOSE',
]

function codeOf({ name, status }: StoreAnswer): ErrorCode | undefined {
  if (Object.hasOwn(byName, name)) return byName[name]
  if (name.startsWith('KMS') || name.startsWith('Kms')) return 'destination.denied'
  if (socketErrors.includes(name)) return 'destination.unreachable'
  // Certificates (CERT_HAS_EXPIRED, DEPTH_ZERO_SELF_SIGNED_CERT, ERR_TLS_…) and plain HTTP spoken to TLS or the reverse.
  if (/CERT|^ERR_TLS|^ERR_SSL|^EPROTO$|^UNABLE_TO|^HPE_/.test(name)) return 'destination.misconfigured'
  return byStatus[status] ?? (status >= 500 ? 'destination.unreachable' : undefined)
}

const hints: Record<string, string> = {
  RegionMissing: 'Say the region of the bucket, e.g. --region eu-central-1, or set AWS_REGION.',
  RequestTimeTooSkewed: "Set this machine's clock: the store refuses requests from another time.",
  InvalidAccessKeyId: 'The store does not know this access key: correct accessKeyId.',
  SignatureDoesNotMatch: 'The secret key does not fit the access key: correct secretAccessKey.',
  ExpiredToken: 'The session has expired: give fresh credentials.',
  CredentialsProviderError:
    'No credentials were given and none are in the environment: give accessKeyId and secretAccessKey.',
}

/**
 * In our words. `doing` e.g. `PutObject on s3://bucket/key`; `permission` what a policy has to allow for it;
 * `secrets` are cut out of whatever the store said. Unknown errors of no store's making come back as they are.
 */
export function storeError(
  error: unknown,
  { doing, permission, secrets }: { doing: string; permission: string; secrets: readonly string[] },
): unknown {
  if (error instanceof HoldfastError) return error
  const answer = answerOf(error)
  const code = codeOf(answer)
  if (!code) return error instanceof Error && answer.status === 0 ? withoutRequest(error) : error
  const said = secrets.reduce((text, secret) => text.replaceAll(secret, '***'), answer.message)
  const status = answer.status > 0 ? `, HTTP ${answer.status}` : ''
  // Wrong keys are no matter of permissions.
  const refused = code === 'destination.denied' && hints[answer.name] === undefined
  const needs = refused ? `; it needs the permission ${permission}` : ''
  const region = answer.region ? `; the bucket is in region ${answer.region}` : ''
  const hint = hints[answer.name]
  return new HoldfastError(
    code,
    `${doing} failed: ${said.replace(/[.\s]+$/, '')} (${answer.name}${status})${needs}${region}.`,
    {
      ...(hint ? { hint } : {}),
      context: {
        storeCode: answer.name,
        attempts: answer.attempts,
        ...(answer.status > 0 ? { status: answer.status } : {}),
      },
    },
  )
}

/** An error of our own code that went through the SDK may carry the request. */
function withoutRequest(error: Error): Error {
  for (const field of ['$response', '$request', 'cause']) Reflect.deleteProperty(error, field)
  return error
}
