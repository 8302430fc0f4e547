/** Azure by a login of Microsoft Entra ID: the store is Azurite over TLS, who gives the tokens is recorded. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { after, before, beforeEach, describe, test } from 'node:test'
import tls from 'node:tls'
import { type ErrorCode, HoldfastError } from '../../model/errors.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { type Azurite, startAzurite } from '../servers/azurite.ts'
import { applicationCertificate } from '../servers/certificate.ts'
import { type RecordedClouds, startRecordedClouds } from '../servers/recorded-clouds.ts'
import { reroute } from '../support/reroute-child.ts'
import { collect } from './conformance.ts'
import { send } from './conformance-uploads.ts'

const canary = 'canary-login-'
const mib = 1024 * 1024

describe('Azure: logins of Microsoft Entra ID', () => {
  let clouds: RecordedClouds
  let server: Azurite
  let back: () => void

  before(async () => {
    clouds = await startRecordedClouds(canary)
    tls.setDefaultCACertificates([...tls.getCACertificates('default'), readFileSync(clouds.ca, 'utf8')])
    back = reroute(clouds.port)
    server = await startAzurite({ tls: clouds })
  })
  beforeEach(() => {
    clouds.seen.length = 0
  })
  after(async () => {
    back?.()
    await server?.stop()
    await clouds?.stop()
  })

  const application = () => {
    const {
      AZURE_TENANT_ID: tenantId,
      AZURE_CLIENT_ID: clientId,
      AZURE_CLIENT_SECRET: clientSecret,
    } = clouds.azure
    return { tenantId, clientId, clientSecret }
  }
  const tokensAsked = () => clouds.seen.filter(line => /oauth2|identity/.test(line)).length
  const works = async (destination: Destination) => {
    await destination.check()
    const body = randomBytes(2 * mib)
    const uploadId = await destination.openUpload('artifact')
    const parts = [
      await send(destination, 'artifact', uploadId, 1, 0, body.subarray(0, mib)),
      await send(destination, 'artifact', uploadId, 2, mib, body.subarray(mib)),
    ]
    await destination.completeUpload('artifact', uploadId, parts)
    assert.ok(body.equals(await collect(await destination.get('artifact'))))
    await destination.remove('artifact')
    await destination.close()
  }
  const refused = async (code: ErrorCode, act: Promise<unknown>): Promise<HoldfastError> => {
    const error = await act.then(
      () => assert.fail(`expected ${code}`),
      thrown => thrown,
    )
    assert.ok(error instanceof HoldfastError, String(error))
    assert.equal(error.code, code, error.message)
    assert.doesNotMatch(`${error.stack} ${JSON.stringify(error.facts())}`, new RegExp(canary))
    assert.equal(error.cause, undefined)
    return error
  }

  test('a service principal with its secret writes, reads, lists and removes, with one token', async () => {
    await works(await openDestination(server.destinationRecord('secret'), application()))
    assert.equal(tokensAsked(), 1)
  })

  test('with a certificate instead', async () => {
    const { pem, certificate } = applicationCertificate()
    clouds.trust(certificate)
    const { tenantId, clientId } = application()
    const login = { tenantId, clientId, clientCertificate: pem }
    await works(await openDestination(server.destinationRecord('certificate'), login))
    const other = { ...login, clientCertificate: applicationCertificate().pem }
    const stranger = await openDestination(server.destinationRecord('certificate'), other)
    await refused('destination.denied', stranger.check())
  })

  test('a secret that is refused is said so, and not shown', async () => {
    const login = { ...application(), clientSecret: `${canary}wrong` }
    const destination = await openDestination(server.destinationRecord('wrong'), login)
    const { message, hint } = await refused('destination.denied', destination.check())
    assert.match(message, /^Getting a token for azure:\/\/backups\/wrong failed: AADSTS7000215: .*\*\*\*\.$/)
    assert.match(hint ?? '', /give a fresh one/)
  })

  test('who gives tokens is away: it is tried again, and no refusal', async () => {
    const destination = await openDestination(server.destinationRecord('away'), application())
    clouds.answer(/oauth2/, 503, {}, 2)
    await destination.put('a', Buffer.from('x'))
    clouds.answer(/oauth2/, 503, {}, 100)
    const other = await openDestination(server.destinationRecord('away'), application())
    await refused('destination.unreachable', other.put('b', Buffer.from('x')))
    clouds.answerAsEver()
    await other.put('b', Buffer.from('x'))
  })

  test('a token that the store does not take is destination.denied, and is not shown', async () => {
    const destination = await openDestination(server.destinationRecord('expired'), application())
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const claims = {
      aud: 'https://storage.azure.com',
      iss: 'https://sts.windows.net/x/',
      nbf: 1,
      exp: 2,
      iat: 1,
    }
    const token = `${part({ typ: 'JWT', alg: 'RS256' })}.${part(claims)}.${canary}`
    clouds.answer(/oauth2/, 200, { token_type: 'Bearer', expires_in: 3600, access_token: token })
    await refused('destination.denied', destination.put('a', Buffer.from('x')))
  })

  test('no token goes over plain HTTP', async () => {
    const record = server.destinationRecord('x')
    const endpoint = server.endpoint.replace('https:', 'http:')
    const plain = { ...record, settings: { ...record.settings, endpoint } }
    const { context } = await refused('request.invalid', openDestination(plain, application()))
    assert.equal(context.field, 'endpoint')
    await refused('destination.denied', openDestination(plain, {}))
    assert.equal(tokensAsked(), 0)
  })

  test("without credentials it is as Azure's own tools: nothing, the environment, the machine", async () => {
    const open = () => openDestination(server.destinationRecord('environment'), {})
    process.env.AZURE_TOKEN_CREDENTIALS = 'EnvironmentCredential'
    const { message, hint } = await refused('destination.denied', (await open()).check())
    assert.match(message, /there is no login in the environment/)
    assert.match(hint ?? '', /managed identity/)
    for (const variables of [clouds.azure, clouds.managed]) {
      process.env.AZURE_TOKEN_CREDENTIALS = 'prod'
      Object.assign(process.env, variables)
      clouds.seen.length = 0
      await works(await open())
      assert.equal(tokensAsked(), 1)
      for (const name of [...Object.keys(variables), 'AZURE_TOKEN_CREDENTIALS'])
        Reflect.deleteProperty(process.env, name)
    }
  })
})
