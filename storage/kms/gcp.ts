/** Google Cloud KMS by its SDK, over REST: symmetric keys. */
import { KeyManagementServiceClient } from '@google-cloud/kms'
import { type ErrorCode, HoldfastError } from '../../model/errors.ts'
import { untilAborted } from '../until-aborted.ts'
import { type Kms, purpose } from './kms.ts'

const keyName = /^projects\/[^/]+\/locations\/[^/]+\/keyRings\/[^/]+\/cryptoKeys\/[^/]+$/

/** A worker waits half a minute for the whole answer. */
const answerSeconds = 8
const tries = 3

/** Of gRPC, which the SDK makes of HTTP's. */
const status = {
  invalidArgument: 3,
  deadlineExceeded: 4,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  notFound: 5,
  unavailable: 14,
  unauthenticated: 16,
} as const

/** One client for the process: it keeps its token. */
let shared: KeyManagementServiceClient | undefined

export function gcpKms(key: string): Kms {
  if (!keyName.test(key)) {
    throw new HoldfastError(
      'key.invalid',
      `Using Google Cloud KMS: "${key.slice(0, 200)}" is not the name of a key (projects/P/locations/L/keyRings/R/cryptoKeys/K; no version).`,
    )
  }
  shared ??= new KeyManagementServiceClient({ fallback: true })
  const client = shared
  const additionalAuthenticatedData = Buffer.from(JSON.stringify(purpose))
  return {
    encrypt: plaintext =>
      call(client, `Encrypting with Google's key ${key}`, async options => {
        const [answer] = await client.encrypt({ name: key, plaintext, additionalAuthenticatedData }, options)
        return answer.ciphertext
      }),
    decrypt: ciphertext =>
      call(
        client,
        `Decrypting with Google's key ${key}`,
        async options => {
          const [answer] = await client.decrypt(
            { name: key, ciphertext, additionalAuthenticatedData },
            options,
          )
          return answer.plaintext
        },
        'artifact.corrupted',
      ),
  }
}

const retry = {
  retryCodes: [status.deadlineExceeded, status.unavailable, status.resourceExhausted],
  backoffSettings: {
    initialRetryDelayMillis: 300,
    retryDelayMultiplier: 2,
    maxRetryDelayMillis: 1000,
    initialRpcTimeoutMillis: answerSeconds * 1000,
    rpcTimeoutMultiplier: 1,
    maxRpcTimeoutMillis: answerSeconds * 1000,
    maxRetries: tries,
    totalTimeoutMillis: null,
  },
}

async function call(
  client: KeyManagementServiceClient,
  doing: string,
  ask: (options: object) => Promise<Uint8Array | string | null | undefined>,
  refused?: ErrorCode,
): Promise<Uint8Array> {
  const signal = AbortSignal.timeout(answerSeconds * tries * 1000)
  let answer: Uint8Array | string | null | undefined
  try {
    // The library asks for its token without the signal.
    await untilAborted(signal, expectToken(client, doing))
    answer = await untilAborted(signal, ask({ signal, retry }))
  } catch (error) {
    if (error instanceof HoldfastError) throw error
    throw meaning(error, doing, refused)
  }
  if (answer instanceof Uint8Array && answer.length > 0) return answer
  throw new HoldfastError('key.kms-unreachable', `${doing}: the answer is empty.`)
}

/** The library's error is not kept as a cause: it carries the request. */
function meaning(error: unknown, doing: string, refused: ErrorCode | undefined): HoldfastError {
  const { code, httpStatusCode } = (error ?? {}) as { code?: unknown; httpStatusCode?: unknown }
  const answered = typeof httpStatusCode === 'number'
  const why = error instanceof Error ? firstLine(error) : 'unknown'
  // After several tries the last one's reason is wrapped in words of the library.
  const last = / retrying error (?:\w*Error: )?(.*?) before any response/.exec(why)?.[1] ?? why
  const said = answered ? `it answered ${httpStatusCode}: ${why}` : `no answer (${last})`
  return new HoldfastError(codeOf(code, refused), `${doing}: ${said}.`)
}

function codeOf(code: unknown, refused: ErrorCode | undefined): ErrorCode {
  switch (code) {
    case status.permissionDenied:
    case status.unauthenticated:
      return 'key.kms-denied'
    case status.invalidArgument:
      return refused ?? 'key.kms-unusable'
    case status.notFound:
    case status.failedPrecondition:
      return 'key.kms-unusable'
    default:
      return 'key.kms-unreachable'
  }
}

/** First, and by itself: a refusal of Google's token service reads like one of the key's otherwise. */
async function expectToken(client: KeyManagementServiceClient, doing: string): Promise<void> {
  try {
    await client.auth.getRequestHeaders()
  } catch (error) {
    const { status: answered } = (error ?? {}) as { status?: unknown }
    const said = error instanceof Error ? firstLine(error) : 'unknown'
    const passing =
      typeof answered === 'number'
        ? answered === 408 || answered === 429 || answered >= 500
        : /ENOTFOUND|ECONN|ETIMEDOUT|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|socket hang up|fetch failed/.test(
            said,
          )
    throw new HoldfastError(
      passing ? 'key.kms-unreachable' : 'key.kms-denied',
      `${doing}: there is no token for it: ${said}.`,
    )
  }
}

const firstLine = ({ message }: Error): string =>
  (message.split('\n', 1)[0] ?? '').slice(0, 300).replace(/[.\s]+$/, '')
