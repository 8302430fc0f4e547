/** Azure Key Vault by its SDK: RSA keys, RSA-OAEP-256. */
import { CryptographyClient, type CryptographyClientOptions, type KeyVaultKey } from '@azure/keyvault-keys'
import { type ErrorCode, HoldfastError } from '../../model/errors.ts'
import { entraTokens } from '../entra.ts'
import type { Kms } from './kms.ts'

/** With its version: another version of a key is another key. */
const keyId =
  /^(https:\/\/[a-z0-9-]{1,60}\.(?:vault|managedhsm)\.(?:azure\.net|azure\.cn|usgovcloudapi\.net))\/keys\/([A-Za-z0-9-]{1,127})\/([0-9a-f]{32})$/
const algorithm = 'RSA-OAEP-256'

/** With the SDK's own tries; a worker waits half a minute for the whole answer. */
const answerSeconds = 8
const tries = 3

/** One client for each key and process: it keeps its token. */
const clients = new Map<string, CryptographyClient>()

export function azureKey(key: string): Kms {
  const [, vaultUrl, name, version] = keyId.exec(key) ?? []
  if (vaultUrl === undefined || name === undefined || version === undefined) {
    throw new HoldfastError(
      'key.invalid',
      `Using Azure Key Vault: "${key.slice(0, 200)}" is not the id of a key (https://VAULT.vault.azure.net/keys/NAME/VERSION).`,
    )
  }
  const client =
    clients.get(key) ?? clientOf({ id: key, name, properties: { id: key, name, vaultUrl, version } })
  clients.set(key, client)
  const call = async (
    what: string,
    ask: (options: object) => Promise<{ result: Uint8Array }>,
    refused?: ErrorCode,
  ) => {
    const doing = `${what} with Azure's key ${key}`
    const abortSignal = AbortSignal.timeout(answerSeconds * tries * 1000)
    try {
      const { result } = await ask({ abortSignal, requestOptions: { timeout: answerSeconds * 1000 } })
      if (result.length > 0) return result
    } catch (error) {
      throw meaning(error, doing, refused)
    }
    throw new HoldfastError('key.kms-unreachable', `${doing}: the answer is empty.`)
  }
  return {
    encrypt: plain => call('Encrypting', options => client.wrapKey(algorithm, plain, options)),
    decrypt: encrypted =>
      call('Decrypting', options => client.unwrapKey(algorithm, encrypted, options), 'artifact.corrupted'),
  }
}

/**
 * Of a key that is not looked up: the SDK would need the permission to read it, and refuse to open with one that has expired,
 * which the vault itself does.
 */
function clientOf(key: KeyVaultKey): CryptographyClient {
  const credential = entraTokens(
    undefined,
    (why, said) =>
      new HoldfastError(
        why === 'denied' ? 'key.kms-denied' : 'key.kms-unreachable',
        `Using Azure's key ${key.id}: there is no token for it: ${said}.`,
      ),
  )
  return new CryptographyClient(key, credential, {
    retryOptions: { maxRetries: tries - 1, retryDelayInMs: 300, maxRetryDelayInMs: 1000 },
    additionalPolicies: [{ policy: refusals, position: 'perCall' }],
  })
}

class Refused extends Error {
  readonly status: number
  readonly body: string

  constructor(status: number, body: string) {
    super(`it answered ${status}`)
    this.status = status
    this.body = body
  }
}

/** The SDK's error leaves out the inner code, which alone tells a key that is disabled from one that we may not use. */
const refusals: NonNullable<CryptographyClientOptions['additionalPolicies']>[number]['policy'] = {
  name: 'holdfastRefusals',
  async sendRequest(request, next) {
    const answer = await next(request)
    if (answer.status >= 400) throw new Refused(answer.status, answer.bodyAsText ?? '')
    return answer
  },
}

/** The SDK's error is not kept as a cause: it carries the request. */
function meaning(error: unknown, doing: string, refused: ErrorCode | undefined): HoldfastError {
  if (error instanceof HoldfastError) return error
  if (!(error instanceof Refused)) {
    const why = error instanceof Error ? ` (${(error.message.split('\n', 1)[0] ?? '').slice(0, 200)})` : ''
    return new HoldfastError('key.kms-unreachable', `${doing}: no answer${why}.`)
  }
  const message = /"message"\s*:\s*"([^"]{1,300})/.exec(error.body)?.[1]
  const said = `${error.message}${message === undefined ? '' : `: ${message.replace(/[.\s]+$/, '')}`}`
  return new HoldfastError(codeOf(error, refused), `${doing}: ${said}.`)
}

function codeOf({ status, body }: Refused, refused: ErrorCode | undefined): ErrorCode {
  if (status === 408 || status === 429 || status >= 500) return 'key.kms-unreachable'
  if (/KeyDisabled|KeyExpired|KeyNotYetValid/.test(body)) return 'key.kms-unusable'
  if (status === 401 || status === 403) return 'key.kms-denied'
  return status === 400 && refused !== undefined ? refused : 'key.kms-unusable'
}
