/**
 * Google Cloud KMS and Azure Key Vault as their references document them: requests that are checked, answers that are
 * recorded from there. Neither service could be had where Holdfast is made; the README says so.
 */
import assert from 'node:assert/strict'
import { constants, generateKeyPairSync, privateDecrypt, publicEncrypt, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { describe, it } from 'node:test'
import { azureKey } from '../../storage/kms/azure.ts'
import { gcpKms } from '../../storage/kms/gcp.ts'
import { failing } from './helpers.ts'

const googleKey = 'projects/acme/locations/europe-west3/keyRings/backups/cryptoKeys/holdfast'
const vaultKey = 'https://acme.vault.azure.net/keys/holdfast/78deebed173b48e48f55abf87ed4cf71'
const token = async () => 'a-token'

type Answered = [status: number, body: object]

/** Answers each request by `answer`; gives back what was asked. */
async function serving(
  answer: (path: string, body: Record<string, string>) => Answered,
  work: (endpoint: string) => Promise<void>,
): Promise<string[]> {
  const seen: string[] = []
  const server = createServer(async (request, response) => {
    seen.push(`${request.method} ${request.url} ${request.headers.authorization}`)
    const [status, body] = answer(request.url ?? '', (await json(request)) as Record<string, string>)
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(body))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  try {
    await work(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  } finally {
    await new Promise(resolve => server.close(resolve))
  }
  return seen
}

const refusing = (status: number, body: object, work: (endpoint: string) => Promise<void>) =>
  serving(() => [status, body], work)

describe('Google Cloud KMS', () => {
  it('is asked as its reference says, and opens what it made', async () => {
    const kek = randomBytes(32)
    const aad = Buffer.from('{"holdfast":"data-key"}').toString('base64')
    const seen = await serving(
      (path, body) => {
        assert.equal(body.additionalAuthenticatedData, aad)
        return path.endsWith(':encrypt')
          ? [200, { name: `${googleKey}/cryptoKeyVersions/1`, ciphertext: body.plaintext }]
          : [200, { plaintext: body.ciphertext, usedPrimary: true }]
      },
      async endpoint => {
        const kms = gcpKms(googleKey, { endpoint, token })
        assert.deepEqual(Buffer.from(await kms.decrypt(await kms.encrypt(kek))), kek)
      },
    )
    assert.deepEqual(seen, [
      `POST /v1/${googleKey}:encrypt Bearer a-token`,
      `POST /v1/${googleKey}:decrypt Bearer a-token`,
    ])
  })

  it('says what its refusals mean', async () => {
    const error = (code: number, status: string) => ({ error: { code, status, message: 'made up' } })
    const decrypting = (endpoint: string) => gcpKms(googleKey, { endpoint, token }).decrypt(randomBytes(40))
    for (const [status, body, code] of [
      [403, error(403, 'PERMISSION_DENIED'), 'key.kms-denied'],
      [404, error(404, 'NOT_FOUND'), 'key.kms-unusable'],
      [400, error(400, 'FAILED_PRECONDITION'), 'key.kms-unusable'],
      [400, error(400, 'INVALID_ARGUMENT'), 'artifact.corrupted'],
      [503, error(503, 'UNAVAILABLE'), 'key.kms-unreachable'],
    ] as const) {
      const seen = await refusing(status, body, async at => void (await failing(code, decrypting(at))))
      assert.equal(seen.length, code === 'key.kms-unreachable' ? 3 : 1)
    }
    await failing('key.kms-unreachable', decrypting('http://127.0.0.1:9'))
    assert.throws(() => gcpKms(`${googleKey}/cryptoKeyVersions/1`), { code: 'key.invalid' })
  })
})

describe('Azure Key Vault', () => {
  it('is asked as its reference says, and opens what its RSA key made', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const padding = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' }
    const kek = randomBytes(32)
    const seen = await serving(
      (path, body) => {
        assert.equal(body.alg, 'RSA-OAEP-256')
        const value = Buffer.from(body.value ?? '', 'base64url')
        const made = path.includes('/wrapkey?')
          ? publicEncrypt({ key: publicKey, ...padding }, value)
          : privateDecrypt({ key: privateKey, ...padding }, value)
        return [200, { kid: vaultKey, value: made.toString('base64url') }]
      },
      async endpoint => {
        const kms = azureKey(vaultKey, { endpoint, token })
        assert.deepEqual(Buffer.from(await kms.decrypt(await kms.encrypt(kek))), kek)
      },
    )
    const path = '/keys/holdfast/78deebed173b48e48f55abf87ed4cf71'
    assert.deepEqual(seen, [
      `POST ${path}/wrapkey?api-version=7.4 Bearer a-token`,
      `POST ${path}/unwrapkey?api-version=7.4 Bearer a-token`,
    ])
  })

  it('says what its refusals mean', async () => {
    const opening = (endpoint: string) => azureKey(vaultKey, { endpoint, token }).decrypt(randomBytes(256))
    const error = (code: string, inner?: string) => ({
      error: { code, message: 'made up', ...(inner ? { innererror: { code: inner } } : {}) },
    })
    for (const [status, body, code] of [
      [403, error('Forbidden', 'ForbiddenByRbac'), 'key.kms-denied'],
      [401, error('Unauthorized'), 'key.kms-denied'],
      [403, error('Forbidden', 'KeyDisabled'), 'key.kms-unusable'],
      [404, error('KeyNotFound'), 'key.kms-unusable'],
      [400, error('BadParameter'), 'artifact.corrupted'],
      [429, error('Throttled'), 'key.kms-unreachable'],
    ] as const) {
      await refusing(status, body, async at => void (await failing(code, opening(at))))
    }
    assert.throws(() => azureKey('https://acme.vault.azure.net/keys/holdfast'), { code: 'key.invalid' })
    assert.throws(() => azureKey(vaultKey.replace('azure.net', 'example.net')), { code: 'key.invalid' })
  })
})
