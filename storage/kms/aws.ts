/** AWS KMS by its SDK. Region and account are those of the ARN. */
import { DecryptCommand, EncryptCommand, KMSClient } from '@aws-sdk/client-kms'
import { type ErrorCode, HoldfastError } from '../../model/errors.ts'
import { type Kms, purpose } from './kms.ts'

/** With the SDK's own tries; a worker waits half a minute for the whole answer. */
const answerSeconds = 8
const tries = 3

/** By the key's own ARN: an alias may be made to mean another key, which would open nothing. */
const arn = /^arn:aws[a-z-]*:kms:([a-z0-9-]+):\d{12}:key\/(?:mrk-)?[0-9a-f-]{32,36}$/

/** One client for each region and process. */
const clients = new Map<string, KMSClient>()

export function awsKms(key: string): Kms {
  const region = arn.exec(key)?.[1]
  if (region === undefined) {
    throw new HoldfastError(
      'key.invalid',
      `Using AWS KMS: "${key.slice(0, 200)}" is not the ARN of a key (arn:aws:kms:REGION:ACCOUNT:key/ID; no alias).`,
    )
  }
  const client = clients.get(region) ?? new KMSClient({ region, maxAttempts: tries })
  clients.set(region, client)
  const call = async (what: string, ask: (abortSignal: AbortSignal) => Promise<Uint8Array | undefined>) => {
    try {
      const answer = await ask(AbortSignal.timeout(answerSeconds * tries * 1000))
      if (answer !== undefined) return answer
    } catch (error) {
      throw meaning(error, `${what} with AWS KMS key ${key}`)
    }
    throw new HoldfastError('key.kms-unreachable', `${what} with AWS KMS key ${key}: the answer is empty.`)
  }
  const common = { KeyId: key, EncryptionContext: purpose }
  return {
    encrypt: plain =>
      call('Encrypting', async abortSignal => {
        const input = { ...common, Plaintext: plain }
        return (await client.send(new EncryptCommand(input), { abortSignal })).CiphertextBlob
      }),
    decrypt: encrypted =>
      call('Decrypting', async abortSignal => {
        const input = { ...common, CiphertextBlob: encrypted }
        return (await client.send(new DecryptCommand(input), { abortSignal })).Plaintext
      }),
  }
}

const byName: Record<string, ErrorCode> = {
  InvalidCiphertextException: 'artifact.corrupted',
  IncorrectKeyException: 'artifact.corrupted',
  NotFoundException: 'key.kms-unusable',
  DisabledException: 'key.kms-unusable',
  InvalidKeyUsageException: 'key.kms-unusable',
  KMSInvalidStateException: 'key.kms-unusable',
  KeyUnavailableException: 'key.kms-unreachable',
  DependencyTimeoutException: 'key.kms-unreachable',
  KMSInternalException: 'key.kms-unreachable',
  ThrottlingException: 'key.kms-unreachable',
  LimitExceededException: 'key.kms-unreachable',
  CredentialsProviderError: 'key.kms-denied',
  TokenProviderError: 'key.kms-denied',
}

/** The SDK's error is not kept as a cause: it carries the request. */
function meaning(error: unknown, what: string): HoldfastError {
  const name = error instanceof Error ? error.name : 'UnknownError'
  const message = error instanceof Error ? error.message.slice(0, 300) : ''
  const status = (error as { $metadata?: { httpStatusCode?: number } } | null)?.$metadata?.httpStatusCode ?? 0
  const refused = status === 400 || status === 401 || status === 403
  const code = byName[name] ?? (refused ? 'key.kms-denied' : 'key.kms-unreachable')
  return new HoldfastError(code, `${what}: ${name}${message === '' ? '' : `: ${message}`}.`)
}
