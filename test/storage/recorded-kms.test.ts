/**
 * Google Cloud KMS and Azure Key Vault by their own SDKs, against answers recorded from their references. Neither service could
 * be had where Holdfast is made; the README says so.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import tls from 'node:tls'
import type { ErrorCode, HoldfastError } from '../../model/errors.ts'
import type { azureKey as AzureKey } from '../../storage/kms/azure.ts'
import type { gcpKms as GcpKms } from '../../storage/kms/gcp.ts'
import { googleKey, type RecordedClouds, startRecordedClouds, vaultKey } from '../servers/recorded-clouds.ts'
import { reroute } from '../support/reroute-child.ts'
import { scratch } from '../support/temporary.ts'
import { failing } from './helpers.ts'

const canary = 'canary-kms-'
const another = (version: string) => vaultKey.replace(/[0-9a-f]{32}$/, version.padEnd(32, '0'))

let clouds: RecordedClouds
let back: () => void
let azureKey: typeof AzureKey
let gcpKms: typeof GcpKms

before(async () => {
  clouds = await startRecordedClouds(canary)
  tls.setDefaultCACertificates([...tls.getCACertificates('default'), readFileSync(clouds.ca, 'utf8')])
  back = reroute(clouds.port)
  Object.assign(process.env, clouds.azure, clouds.google)
  ;({ azureKey } = await import('../../storage/kms/azure.ts'))
  ;({ gcpKms } = await import('../../storage/kms/gcp.ts'))
})
beforeEach(() => {
  clouds.seen.length = 0
})
after(async () => {
  back?.()
  await clouds?.stop()
})

/** What was asked, without what differs each time. */
const asked = () => clouds.seen.map(line => line.replace(/client-request-id=[0-9a-f-]+/, ''))

async function refused(code: ErrorCode, act: Promise<unknown>): Promise<HoldfastError> {
  const error = await failing(code, act)
  assert.doesNotMatch(`${error.stack} ${JSON.stringify(error.facts())}`, new RegExp(canary))
  assert.equal(error.cause, undefined)
  return error
}

describe('Google Cloud KMS', () => {
  const path = `cloudkms.googleapis.com/v1/${googleKey}`

  it('is asked as its reference says, and opens what it made', async () => {
    const kek = randomBytes(32)
    const kms = gcpKms(googleKey)
    const made = await kms.encrypt(kek)
    assert.notDeepEqual(Buffer.from(made), kek)
    assert.deepEqual(Buffer.from(await kms.decrypt(made)), kek)
    assert.deepEqual(
      asked().map(line => line.split('?')[0]),
      [`POST ${path}:encrypt`, `POST ${path}:decrypt`],
    )
  })

  it('says what its refusals mean', async () => {
    const decrypt = () => gcpKms(googleKey).decrypt(randomBytes(60))
    for (const [status, name, code, tries] of [
      [403, 'PERMISSION_DENIED', 'key.kms-denied', 1],
      [401, 'UNAUTHENTICATED', 'key.kms-denied', 1],
      [404, 'NOT_FOUND', 'key.kms-unusable', 1],
      [400, 'FAILED_PRECONDITION', 'key.kms-unusable', 1],
      [429, 'RESOURCE_EXHAUSTED', 'key.kms-unreachable', 3],
      [503, 'UNAVAILABLE', 'key.kms-unreachable', 3],
    ] as const) {
      clouds.seen.length = 0
      clouds.answer(/:decrypt/, status, { error: { code: status, status: name, message: 'made up' } }, tries)
      const { message } = await refused(code, decrypt())
      assert.match(message, /made up/)
      assert.equal(asked().length, tries, name)
    }
    assert.match((await refused('artifact.corrupted', decrypt())).message, /it answered 400/)
    clouds.answer(/:encrypt/, 400, { error: { code: 400, status: 'INVALID_ARGUMENT', message: 'made up' } })
    await refused('key.kms-unusable', gcpKms(googleKey).encrypt(randomBytes(32)))
    assert.throws(() => gcpKms(`${googleKey}/cryptoKeyVersions/1`), { code: 'key.invalid' })
  })

  it('a token that is refused is no damaged backup', async () => {
    await using directory = await scratch()
    const file = join(directory.path, 'person.json')
    const person = {
      type: 'authorized_user',
      client_id: 'a',
      client_secret: `${canary}a`,
      refresh_token: `${canary}b`,
    }
    await writeFile(file, JSON.stringify(person))
    const given = process.env.GOOGLE_APPLICATION_CREDENTIALS
    process.env.GOOGLE_APPLICATION_CREDENTIALS = file
    // The library's client is one for the process, and has its token.
    const again = '../../storage/kms/gcp.ts?again'
    const fresh = (await import(again)) as { gcpKms: typeof GcpKms }
    const decrypt = () => fresh.gcpKms(googleKey).decrypt(randomBytes(60))
    clouds.answer(/oauth2\.googleapis\.com/, 400, { error: 'invalid_grant', error_description: 'expired' })
    assert.match(
      (await refused('key.kms-denied', decrypt())).message,
      /there is no token for it: invalid_grant/,
    )
    clouds.answer(/oauth2\.googleapis\.com/, 503, { error: 'unavailable' }, 10)
    await refused('key.kms-unreachable', decrypt())
    process.env.GOOGLE_APPLICATION_CREDENTIALS = given
  })
})

describe('Azure Key Vault', () => {
  const path = vaultKey.replace('https://', '')
  const token = 'POST login.microsoftonline.com/7f58f645-c190-4ce5-9de4-e2b7acd2a6ab/oauth2/v2.0/token?'

  it('is asked as its reference says, without looking the key up, and opens what its RSA key made', async () => {
    const kek = randomBytes(32)
    const kms = azureKey(vaultKey)
    const made = await kms.encrypt(kek)
    assert.equal(made.length, 256)
    assert.deepEqual(Buffer.from(await kms.decrypt(made)), kek)
    assert.deepEqual(
      asked().map(line => line.replace(/api.*$/, '')),
      // The first one, without its body, only says who gives tokens.
      [`POST ${path}/wrapkey?`, token, `POST ${path}/wrapkey?`, `POST ${path}/unwrapkey?`],
    )
  })

  it('says what its refusals mean', async () => {
    const open = () => azureKey(vaultKey).decrypt(randomBytes(256))
    const error = (code: string, inner?: string) => ({
      error: { code, message: 'made up', ...(inner ? { innererror: { code: inner } } : {}) },
    })
    for (const [status, body, code, tries] of [
      [403, error('Forbidden', 'ForbiddenByRbac'), 'key.kms-denied', 1],
      [401, error('Unauthorized'), 'key.kms-denied', 1],
      [403, error('Forbidden', 'KeyDisabled'), 'key.kms-unusable', 1],
      [404, error('KeyNotFound'), 'key.kms-unusable', 1],
      [400, error('BadParameter'), 'artifact.corrupted', 1],
      [429, error('Throttled'), 'key.kms-unreachable', 1],
      [503, error('ServiceUnavailable'), 'key.kms-unreachable', 3],
    ] as const) {
      clouds.seen.length = 0
      clouds.answer(/unwrapkey/, status, body, tries)
      assert.match((await refused(code, open())).message, /it answered \d+: made up/)
      assert.equal(asked().length, tries, code)
    }
    await refused('artifact.corrupted', open())
    clouds.answer(/wrapkey/, 400, error('BadParameter'))
    await refused('key.kms-unusable', azureKey(vaultKey).encrypt(randomBytes(32)))
    assert.throws(() => azureKey('https://acme.vault.azure.net/keys/holdfast'), { code: 'key.invalid' })
    assert.throws(() => azureKey(vaultKey.replace('azure.net', 'example.net')), { code: 'key.invalid' })
  })

  it('a login that is refused is none, and one that nobody answers for is waited for', async () => {
    const secret = process.env.AZURE_CLIENT_SECRET
    process.env.AZURE_CLIENT_SECRET = `${canary}wrong`
    const kms = azureKey(another('1'))
    const encrypt = () => kms.encrypt(randomBytes(32))
    // The stand-in says the secret in its answer.
    assert.match(
      (await refused('key.kms-denied', encrypt())).message,
      /no token for it: AADSTS7000215: .*\*\*\*/,
    )
    process.env.AZURE_CLIENT_SECRET = secret
    clouds.answer(/oauth2\/v2/, 503, {}, 2)
    await refused('key.kms-unreachable', encrypt())
    assert.equal((await encrypt()).length, 256)
  })

  it('nobody listens: each is waited for', async () => {
    await clouds.stop()
    await refused('key.kms-unreachable', azureKey(vaultKey).encrypt(randomBytes(32)))
    await refused('key.kms-unreachable', azureKey(another('2')).encrypt(randomBytes(32)))
    await refused('key.kms-unreachable', gcpKms(googleKey).encrypt(randomBytes(32)))
  })
})
