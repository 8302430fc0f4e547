/**
 * What the answers of Azure Blob Storage mean. The SDK's error is never kept as a cause: it carries the request, and the
 * request its authorization.
 */
import { type ErrorCode, HoldfastError } from '../../model/errors.ts'
import { retryAfterMs } from '../retry-calls.ts'

const byName: Record<string, ErrorCode> = {
  AuthenticationFailed: 'destination.denied',
  AuthorizationFailure: 'destination.denied',
  AuthorizationPermissionMismatch: 'destination.denied',
  AuthorizationProtocolMismatch: 'destination.denied',
  AuthorizationResourceTypeMismatch: 'destination.denied',
  AuthorizationServiceMismatch: 'destination.denied',
  AuthorizationSourceIPMismatch: 'destination.denied',
  InsufficientAccountPermissions: 'destination.denied',
  InvalidAuthenticationInfo: 'destination.denied',
  NoAuthenticationInformation: 'destination.denied',
  KeyBasedAuthenticationNotPermitted: 'destination.denied',
  PublicAccessNotPermitted: 'destination.denied',
  BlobImmutableDueToPolicy: 'destination.locked',
  BlobImmutableDueToLegalHold: 'destination.locked',
  EncryptionScopeNotFound: 'destination.misconfigured',
  AccountIsDisabled: 'destination.denied',
  KeyVaultAccessTokenCannotBeAcquired: 'destination.denied',
  ContainerNotFound: 'destination.missing',
  ContainerDisabled: 'destination.missing',
  ContainerBeingDeleted: 'destination.missing',
  ResourceNotFound: 'destination.missing',
  BlobNotFound: 'destination.object-missing',
  BlobAlreadyExists: 'destination.exists',
  ConditionNotMet: 'destination.exists',
  TargetConditionNotMet: 'destination.exists',
  InvalidBlockList: 'destination.upload-gone',
  InvalidBlockId: 'destination.upload-gone',
  InvalidBlobOrBlock: 'destination.upload-gone',
  Md5Mismatch: 'destination.corrupted',
  Crc64Mismatch: 'destination.corrupted',
  ServerBusy: 'destination.throttled',
  AccountBeingCreated: 'destination.throttled',
  OperationTimedOut: 'destination.unreachable',
  InternalError: 'destination.unreachable',
  RequestBodyIncomplete: 'destination.unreachable',
  BlobArchived: 'destination.archived',
  BlobBeingRehydrated: 'destination.archived',
  InvalidRange: 'destination.misconfigured',
  BlobAccessTierNotSupportedForAccountType: 'destination.misconfigured',
  FeatureVersionMismatch: 'destination.misconfigured',
  // The SDK's name for a connection that could not be made or broke.
  REQUEST_SEND_ERROR: 'destination.unreachable',
  PARSE_ERROR: 'destination.unreachable',
  ERR_STREAM_PREMATURE_CLOSE: 'destination.unreachable',
  // What it calls a body whose connection broke. Whoever was cancelled is told so before this is asked.
  AbortError: 'destination.unreachable',
  ENOTFOUND: 'destination.unreachable',
  ECONNREFUSED: 'destination.unreachable',
  ECONNRESET: 'destination.unreachable',
  EPIPE: 'destination.unreachable',
  ETIMEDOUT: 'destination.unreachable',
  EAI_AGAIN: 'destination.unreachable',
  EHOSTUNREACH: 'destination.unreachable',
  ENETUNREACH: 'destination.unreachable',
}

const byStatus: Record<number, ErrorCode> = {
  400: 'destination.misconfigured',
  401: 'destination.denied',
  403: 'destination.denied',
  404: 'destination.object-missing',
  409: 'destination.throttled',
  412: 'destination.exists',
  416: 'destination.misconfigured',
  429: 'destination.throttled',
  501: 'destination.misconfigured',
  503: 'destination.throttled',
  507: 'destination.full',
}

const hints: Record<string, string> = {
  AuthenticationFailed:
    'The account does not know this key or signature, or the signature has expired: give fresh credentials, and check the clock of this machine.',
  KeyBasedAuthenticationNotPermitted: 'The account takes no account keys: give a shared access signature.',
  ENOTFOUND: 'There is no such host: correct the account, or the endpoint.',
}

interface Answer {
  name: string
  status: number
  message: string
  retryMs: number | undefined
}

function answerOf(error: unknown): Answer {
  const fields: Record<string, unknown> = typeof error === 'object' && error !== null ? { ...error } : {}
  const details = typeof fields.details === 'object' && fields.details !== null ? { ...fields.details } : {}
  const response = fields.response as { headers?: { get(name: string): string | undefined } } | undefined
  const text = (value: unknown) => (typeof value === 'string' && value !== '' ? value : undefined)
  const message = error instanceof Error ? error.message : String(error)
  return {
    name:
      text((details as { errorCode?: unknown }).errorCode) ??
      text(response?.headers?.get('x-ms-error-code')) ??
      text(fields.code) ??
      (error instanceof Error && error.name === 'AbortError' ? error.name : undefined) ??
      'UnknownError',
    status: typeof fields.statusCode === 'number' ? fields.statusCode : 0,
    // The first line says it; the others are ids and times of the store.
    message: (message.split('\n', 1)[0] ?? '').slice(0, 500),
    retryMs: retryAfterMs(response?.headers?.get('retry-after')),
  }
}

function codeOf({ name, status, message }: Answer): ErrorCode | undefined {
  // Certificates, and plain HTTP spoken to TLS or the reverse: trying again does not mend them.
  if (status === 0 && /CERT|TLS|SSL|certificate|EPROTO|UNABLE_TO|HPE_/.test(`${name} ${message}`)) {
    return 'destination.misconfigured'
  }
  // Azurite's words for Md5Mismatch.
  if (status === 400 && /contentMD5 doesn't match/i.test(message)) return 'destination.corrupted'
  if (Object.hasOwn(byName, name)) return byName[name]
  return byStatus[status] ?? (status >= 500 ? 'destination.unreachable' : undefined)
}

/**
 * In our words. `doing` e.g. `Put Blob on azure://container/key`; `permission` what a signature or role has to allow for
 * it; `secrets` are cut out of whatever the store said. Unknown errors of no store's making come back without their request.
 */
export function storeError(
  error: unknown,
  { doing, permission, secrets }: { doing: string; permission: string; secrets: readonly string[] },
): unknown {
  if (error instanceof HoldfastError) return error
  const answer = answerOf(error)
  const code = codeOf(answer)
  if (!code) {
    if (error instanceof Error)
      for (const field of ['request', 'response', 'cause', 'details']) Reflect.deleteProperty(error, field)
    return error
  }
  const said = secrets.reduce((text, secret) => text.replaceAll(secret, '***'), answer.message)
  const status = answer.status > 0 ? `, HTTP ${answer.status}` : ''
  const hint = hints[answer.name]
  const needs =
    code === 'destination.denied' && hint === undefined ? `; it needs the permission ${permission}` : ''
  return new HoldfastError(
    code,
    `${doing} failed: ${said.replace(/[.\s]+$/, '')} (${answer.name}${status})${needs}.`,
    {
      ...(hint === undefined ? {} : { hint }),
      context: {
        storeCode: answer.name,
        ...(answer.status > 0 ? { status: answer.status } : {}),
        ...(answer.retryMs === undefined ? {} : { retryAfterMs: answer.retryMs }),
      },
    },
  )
}
