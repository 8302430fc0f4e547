/** Backups to Azure by logins of Microsoft Entra ID, by the command line, from end to end: no secret and no token gets out. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import tls from 'node:tls'
import { holdfast } from '../cli/run.ts'
import { type Azurite, startAzurite } from '../servers/azurite.ts'
import { applicationCertificate } from '../servers/certificate.ts'
import { type RecordedClouds, startRecordedClouds } from '../servers/recorded-clouds.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeRandomSqlite } from './databases.ts'
import { type Stack, startStack } from './stack.ts'

const canary = 'canary-entra-'

describe('Azure destinations by a login', () => {
  let stack: Stack
  let clouds: RecordedClouds
  let blobs: Azurite
  let source: string
  const { pem, certificate } = applicationCertificate()

  before(async () => {
    clouds = await startRecordedClouds(canary)
    clouds.trust(certificate)
    tls.setDefaultCACertificates([...tls.getCACertificates('default'), readFileSync(clouds.ca, 'utf8')])
    blobs = await startAzurite({ tls: clouds })
    // The machines of API and worker have an identity; whose login is stored does not need it.
    const env = { HOLDFAST_LOG_LEVEL: 'debug', AZURE_LOG_LEVEL: 'info', AZURE_TOKEN_CREDENTIALS: 'prod' }
    stack = await startStack({ env: { ...clouds.led, ...clouds.managed, ...env } })
    source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 1)
    await stack.expectOk('POST', '/v1/connections', { name: 'lite', url: `sqlite:${source}` })
  })
  after(async () => {
    await stack?.stop()
    await blobs?.stop()
    await clouds?.stop()
  })

  const credentials = async (name: string, values: Record<string, string>) => {
    const file = join(stack.directory, name)
    await writeFile(
      file,
      Object.entries(values).map(([key, value]) => `${key}=${value}\n`),
    )
    return ['--credentials-file', file]
  }
  const add = (name: string, options: string[]) =>
    holdfast(
      [
        ...['destination', 'add', name, `azure://${blobs.container}/${name}`],
        ...['--endpoint', blobs.endpoint, '--account', blobs.account, ...options],
      ],
      { env: { HOLDFAST_URL: stack.apiUrl, HOLDFAST_TOKEN: stack.token, HOLDFAST_HOME: stack.home } },
    )
  /** Of the stack's own directory, but what the test has put there itself. */
  const showing = (own: readonly string[]) =>
    readdirSync(stack.directory, { recursive: true, encoding: 'utf8' })
      .filter(name => !own.includes(name) && statSync(join(stack.directory, name)).isFile())
      .filter(name => {
        const content = readFileSync(join(stack.directory, name))
        return content.includes(canary) || content.includes(pem.split('\n')[3] ?? '')
      })

  test('a secret, a certificate, the machine itself: backup and restore; a secret that is refused', async () => {
    const { AZURE_CLIENT_SECRET: _, ...application } = clouds.azure
    await writeFile(join(stack.directory, 'login.pem'), pem)
    const ways = {
      secret: await credentials('secret.env', clouds.azure),
      certificate: await credentials('certificate.env', {
        ...application,
        AZURE_CLIENT_CERTIFICATE_PATH: join(stack.directory, 'login.pem'),
      }),
      machine: [],
    }
    for (const [name, options] of Object.entries(ways)) {
      const added = await add(name, options)
      assert.equal(added.code, 0, added.stderr)
      const made = await stack.ended((await stack.backup({ connection: 'lite', destinations: [name] })).id)
      assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
      const target = { connection: 'lite', database: join(stack.directory, `${name}.db`) }
      const view = await stack.ended((await stack.restore({ backup: made.backup, target })).id)
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      assert.deepEqual(digestSqlite(target.database), digestSqlite(source))
    }
    const file = await credentials('wrong.env', { ...application, AZURE_CLIENT_SECRET: `${canary}wrong-one` })
    const wrong = await add('wrong', file)
    assert.match(wrong.stderr, /error destination\.denied: .*AADSTS7000215/)
    assert.ok(!wrong.stderr.includes(canary), wrong.stderr)
    const half = await add('half', await credentials('half.env', application))
    assert.match(
      half.stderr,
      /error request\.invalid: .*AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH/,
    )
    assert.deepEqual(showing(['secret.env', 'wrong.env', 'login.pem']), [])
  })
})
