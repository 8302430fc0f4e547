/** What the answers of Google Cloud Storage mean. No request is kept: it carries a token, and a session's address is one. */
import { type ErrorCode, HoldfastError } from '../../model/errors.ts'
import { retryAfterMs } from '../retry-calls.ts'
import type { Answer } from './http.ts'

const byReason: Record<string, ErrorCode> = {
  rateLimitExceeded: 'destination.throttled',
  userRateLimitExceeded: 'destination.throttled',
  quotaExceeded: 'destination.full',
  accountDisabled: 'destination.denied',
  billingNotEnabled: 'destination.denied',
  conditionNotMet: 'destination.exists',
  retentionPolicyNotMet: 'destination.locked',
  objectUnderActiveHold: 'destination.locked',
}

const byStatus: Record<number, ErrorCode> = {
  400: 'destination.misconfigured',
  401: 'destination.denied',
  402: 'destination.denied',
  403: 'destination.denied',
  404: 'destination.object-missing',
  408: 'destination.unreachable',
  409: 'destination.throttled',
  410: 'destination.upload-gone',
  412: 'destination.exists',
  416: 'destination.misconfigured',
  429: 'destination.throttled',
  499: 'destination.upload-gone',
  501: 'destination.misconfigured',
  503: 'destination.throttled',
  507: 'destination.full',
}

/** Not ours: of the account that Google keeps for the project's buckets. */
const keyPermission =
  "cloudkms.cryptoKeyVersions.useToEncrypt and .useToDecrypt on the key, for the project's Cloud Storage service agent"

interface Doing {
  /** e.g. `objects.insert on gcs://bucket/key`. */
  doing: string
  /** What a role has to allow for it. */
  permission: string
  /** It does not ask for an object: what is not there is the bucket. */
  ofBucket: boolean
}

/** Of an answer that is not the expected one. Reads its body. */
export async function answerError(
  answer: Answer,
  { doing, permission, ofBucket }: Doing,
): Promise<HoldfastError> {
  const text = await answer.text().catch(() => undefined)
  // What it means is in its words as often as in its status: of half an answer it is not known. Asked again, it is.
  if (text === undefined) {
    return new HoldfastError(
      'destination.unreachable',
      `${doing} failed: the answer is not whole (HTTP ${answer.status}).`,
      { context: { status: answer.status } },
    )
  }
  const { message, reason } = said(text)
  const bucketMissing = answer.status === 404 && (ofBucket || /bucket.*(not exist|not found)/i.test(message))
  const isHash = answer.status === 400 && /md5|crc32c|hash/i.test(message)
  const code = bucketMissing
    ? 'destination.missing'
    : isHash
      ? 'destination.corrupted'
      : (byReason[reason] ??
        byStatus[answer.status] ??
        (answer.status >= 500 ? 'destination.unreachable' : 'destination.misconfigured'))
  const ofKey = /Cloud KMS/i.test(message)
  const needs =
    code === 'destination.denied' && answer.status === 403
      ? `; it needs the permission ${ofKey ? keyPermission : permission}`
      : ''
  const waitMs = retryAfterMs(answer.header('retry-after'))
  const hint =
    answer.status === 401
      ? 'Google does not take these credentials: give a fresh service account key.'
      : undefined
  return new HoldfastError(
    code,
    `${doing} failed: ${message.replace(/[.\s]+$/, '') || 'no reason was given'} (${reason === '' ? '' : `${reason}, `}HTTP ${answer.status})${needs}.`,
    {
      ...(hint === undefined ? {} : { hint }),
      context: {
        storeCode: reason,
        status: answer.status,
        ...(waitMs === undefined ? {} : { retryAfterMs: waitMs }),
      },
    },
  )
}

function said(text: string): { message: string; reason: string } {
  try {
    const { error } = JSON.parse(text) as {
      error?: { message?: unknown; errors?: { reason?: unknown; message?: unknown }[] } | string
    }
    if (typeof error === 'object' && error !== null) {
      const first = error.errors?.[0]
      const message = error.message || first?.message
      return {
        message: typeof message === 'string' ? message.slice(0, 500) : '',
        reason: typeof first?.reason === 'string' ? first.reason : '',
      }
    }
  } catch {
    // Plain text, as resumable sessions answer.
  }
  return { message: (text.split('\n', 1)[0] ?? '').slice(0, 200), reason: '' }
}

const configuration = /CERT|^ERR_TLS|^ERR_SSL|^EPROTO$|^UNABLE_TO|^HPE_|^UND_ERR_NOT_SUPPORTED$/

/** Of a request that got no answer, or whose answer broke. Errors of no network's making come back as they are. */
export function networkError(error: unknown, doing: string): unknown {
  if (error instanceof HoldfastError) return error
  if (error instanceof SyntaxError) {
    return new HoldfastError('destination.unreachable', `${doing} failed: the answer is not whole.`)
  }
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
  const broke = code !== '' || (error instanceof TypeError && /fetch failed|terminated/.test(error.message))
  if (!broke) return error
  const words = cause instanceof Error ? cause.message : String(cause)
  return new HoldfastError(
    configuration.test(code) ? 'destination.misconfigured' : 'destination.unreachable',
    `${doing} failed: ${words.slice(0, 300)}${code === '' ? '' : ` (${code})`}.`,
    { context: { storeCode: code } },
  )
}
