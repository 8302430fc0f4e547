/** Keys at Google Cloud KMS and Azure Key Vault by the command line, from end to end; what answers is recorded. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { KeyView, OperationView, StatusView } from '../../model/views.ts'
import { holdfast } from '../cli/run.ts'
import { googleKey, type RecordedClouds, startRecordedClouds, vaultKey } from '../servers/recorded-clouds.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeRandomSqlite } from './databases.ts'
import { directory, type Stack, startStack } from './stack.ts'

const canary = 'canary-clouds-'

describe('Google Cloud KMS and Azure Key Vault', () => {
  let stack: Stack
  let clouds: RecordedClouds
  let disk: string
  let source: string

  before(async () => {
    clouds = await startRecordedClouds(canary)
    // Of the processes only the API asks the services: the worker has no credentials for them.
    const env = { ...clouds.led, HOLDFAST_LOG_LEVEL: 'debug' }
    stack = await startStack({ worker: false, env: { ...env, ...clouds.azure, ...clouds.google } })
    stack.startWorker({ AZURE_CLIENT_SECRET: '', GOOGLE_APPLICATION_CREDENTIALS: '/nowhere' })
    disk = await directory(stack, 'backups')
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: disk })
    source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 1)
    await stack.expectOk('POST', '/v1/connections', { name: 'lite', url: `sqlite:${source}` })
  })
  after(async () => {
    await stack?.stop()
    await clouds?.stop()
  })

  const cli = (...args: string[]) =>
    holdfast(args, {
      env: { HOLDFAST_URL: stack.apiUrl, HOLDFAST_TOKEN: stack.token, HOLDFAST_HOME: stack.home },
    })
  const backup = async (encryptTo: string[]) => {
    const begun = await stack.backup({ connection: 'lite', destinations: ['disk'], encryptTo })
    const made = await stack.ended(begun.id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    return made.backup
  }
  const restore = async (id: string, name: string) => {
    const target = { connection: 'lite', database: join(stack.directory, name) }
    return await stack.ended((await stack.restore({ backup: id, target })).id)
  }

  const services = [
    { name: 'google', flag: '--gcp-kms', key: googleKey, service: 'gcp-kms', opening: /:decrypt/ },
    { name: 'azure', flag: '--azure-key', key: vaultKey, service: 'azure-key-vault', opening: /unwrapkey/ },
  ] as const

  for (const { name, flag, key, service, opening } of services) {
    test(`${flag}: a key is proven when it is added; a backup for it is restored, and recovered without a server`, async () => {
      const wrong = await cli('keys', 'new', 'wrong', flag, `${key}/more`)
      assert.match(wrong.stderr, /error key\.invalid/)
      const made = await cli('keys', 'new', name, flag, key)
      assert.equal(made.code, 0, made.stderr)
      assert.match(made.stdout, new RegExp(`^${name}: ${service}, `))
      const id = await backup([name])
      const restored = await restore(id, `${name}.db`)
      assert.equal(restored.state, 'succeeded', JSON.stringify(restored.error))
      assert.deepEqual(digestSqlite(join(stack.directory, `${name}.db`)), digestSqlite(source))

      const { fingerprint } = await stack.expectOk<StatusView>('GET', '/v1/status')
      const file = join(stack.home, 'keys', `${name}.json`)
      assert.doesNotMatch(await readFile(file, 'utf8'), /privateKey/)
      const own = { ...clouds.led, ...clouds.azure, ...clouds.google }
      for (const way of [
        [flag, key, '--fingerprint', fingerprint],
        ['--key', file],
      ]) {
        const out = join(stack.directory, `${name}-by${way[0]}.db`)
        const args = ['recover', disk, '--backup', id, '--out', out, ...way]
        const recovered = await holdfast(args, { env: own })
        assert.equal(recovered.code, 0, recovered.stderr)
        assert.deepEqual(digestSqlite(out), digestSqlite(source))
      }
      const checked = await holdfast(['keys', 'escrow-check', disk, '--key', file], { env: own })
      assert.equal(checked.code, 0, checked.stderr)
    })

    test(`${flag}: a service that is away is waited for; one that refuses is not asked for ever`, async () => {
      const id = await backup([name])
      clouds.answer(opening, 503, { error: { code: 503, status: 'UNAVAILABLE', message: 'made up' } }, 3)
      const waited = await restore(id, `${name}-waited.db`)
      assert.equal(waited.state, 'succeeded', JSON.stringify(waited.error))
      clouds.answer(opening, 403, { error: { code: 403, status: 'PERMISSION_DENIED', message: 'made up' } })
      const refused = await restore(id, `${name}-refused.db`)
      assert.deepEqual([refused.state, refused.error?.code], ['failed', 'key.kms-denied'])
    })
  }

  test('a rotation moves backups from one service to the other', async () => {
    const id = await backup(['google'])
    const path = '/v1/keys/google/rotate'
    const { operation } = await stack.expectOk<{ operation: OperationView }>('POST', path, { to: 'azure' })
    const rotated = await stack.ended(operation.id)
    assert.equal(rotated.state, 'succeeded', JSON.stringify([rotated.error, rotated.warnings]))
    const retired = await cli('keys', 'retire', 'google')
    assert.equal(retired.code, 0, retired.stderr)
    const { items } = await stack.expectOk<{ items: KeyView[] }>('GET', '/v1/keys')
    assert.ok(!items.some(one => one.name === 'google'))
    const before = clouds.seen.filter(line => line.includes(':decrypt')).length
    const restored = await restore(id, 'moved.db')
    assert.equal(restored.state, 'succeeded', JSON.stringify(restored.error))
    assert.equal(clouds.seen.filter(line => line.includes(':decrypt')).length, before)
  })

  test('no secret and no token is anywhere below', () => {
    const found: string[] = []
    for (const name of readdirSync(stack.directory, { recursive: true, encoding: 'utf8' })) {
      const path = join(stack.directory, name)
      if (statSync(path).isFile() && readFileSync(path).includes(canary)) found.push(path)
    }
    assert.deepEqual(found, [])
  })
})
