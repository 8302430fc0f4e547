/** Secrets that stay where they are kept: looked up when they are used, by the process that uses them, and kept nowhere. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { holdfast } from '../cli/run.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { startRecordedVault } from '../servers/recorded-vault.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { type Stack, s3Input, startStack } from './stack.ts'

describe('references to secrets', () => {
  const password = `canary-${randomBytes(9).toString('hex')}-password`
  const token = `canary-${randomBytes(9).toString('hex')}-token`
  let stack: Stack
  let store: Versitygw
  let postgres: TestPostgres
  let vault: Awaited<ReturnType<typeof startRecordedVault>>
  let file: string
  let url: string

  before(async () => {
    store = await startVersitygw()
    postgres = await startPostgres({ auth: 'scram', password })
    await createDatabase(postgres.url(), 'shop')
    vault = await startRecordedVault(token, {
      'kv/stores/versity': { key: store.secretAccessKey },
    })
    stack = await startStack({
      env: {
        VAULT_ADDR: vault.url,
        VAULT_TOKEN: token,
        VERSITY_ID: store.accessKeyId,
        HOLDFAST_PARK_RETRY_SECONDS: '2',
      },
    })
    file = join(stack.directory, 'password')
    await writeFile(file, `${password}\n`)
    url = postgres.url('shop').replace(/:[^:@/]+@/, '@')
  })
  after(async () => {
    await stack?.stop()
    await postgres?.stop()
    await store?.stop()
    await vault?.stop()
  })

  const cli = () => ({ HOLDFAST_URL: stack.apiUrl, HOLDFAST_TOKEN: stack.token, HOLDFAST_HOME: stack.home })
  const destination = (ref: string) => ({
    ...s3Input(store, 'vault', 'references'),
    accessKeyId: { ref: 'env:VERSITY_ID' },
    secretAccessKey: { ref },
  })
  const backup = async (more: object = {}) =>
    (await stack.backup({ connection: 'shop', destinations: ['vault'], ...more })).id

  test('its form and what it stands for are looked at at once; the error names the reference', async () => {
    for (const ref of [
      'env:HOLDFAST_SECRET_KEY',
      'file:relative',
      'vault:kv/a',
      'vault:kv/../x#y',
      'aws:x',
    ]) {
      const { status, body } = await stack.refused('POST', '/v1/destinations', destination(ref))
      assert.deepEqual([status, body.code], [422, 'request.invalid'], ref)
    }
    for (const [ref, code, said] of [
      ['env:NOBODY_SET_THIS', 'secret.missing', /env:NOBODY_SET_THIS: the variable is not set/],
      ['file:/nowhere/at/all', 'secret.missing', /file:\/nowhere\/at\/all: the file cannot be read/],
      ['vault:kv/stores/versity#other', 'secret.missing', /has no text in other/],
      ['vault:kv/stores/none#key', 'secret.missing', /it answered 404/],
    ] as const) {
      const { body } = await stack.refused('POST', '/v1/destinations', destination(ref))
      assert.equal(body.code, code, JSON.stringify(body))
      assert.match(body.detail, said)
    }
  })

  test('a backup and a restore use what is found at the moment; what is changed there is used at once', async () => {
    await stack.expectOk('POST', '/v1/destinations', destination('vault:kv/stores/versity#key'))
    const added = await holdfast(
      ['connection', 'add', 'shop', url, '--secret-ref', `password=file:${file}`],
      { env: cli() },
    )
    assert.equal(added.code, 0, added.stderr)
    const made = await stack.ended(await backup())
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    const target = { connection: 'shop', database: 'shop_back' }
    const restored = await stack.ended((await stack.restore({ backup: made.backup, target })).id)
    assert.equal(restored.state, 'succeeded', JSON.stringify(restored.error))

    await writeFile(file, 'another one')
    const wrong = await stack.ended(await backup())
    assert.equal(wrong.error?.code, 'database.authentication', JSON.stringify(wrong.error))
    await rm(file)
    const parked = await backup({ unattended: true })
    assert.equal((await stack.parked(parked)).error?.code, 'secret.missing')
    await writeFile(file, password)
    await stack.resume(parked)
    assert.equal((await stack.ended(parked)).state, 'succeeded')
  })

  test('is in no file of ours, but for the one that keeps it', async () => {
    vault.seal(true)
    const checked = await stack.refused('POST', '/v1/destinations/vault/check', {})
    assert.equal(checked.body.code, 'secret.unreachable', JSON.stringify(checked.body))
    vault.seal(false)
    const secrets = [password, token, store.secretAccessKey]
    const found: string[] = []
    for (const name of readdirSync(stack.directory, { recursive: true, encoding: 'utf8' })) {
      const path = join(stack.directory, name)
      if (path === file || !statSync(path, { throwIfNoEntry: false })?.isFile()) continue
      const content = readFileSync(path)
      if (secrets.some(secret => content.includes(secret))) found.push(name)
    }
    assert.deepEqual(found, [])
    const answers = JSON.stringify([
      (await stack.call('GET', '/v1/connections/shop')).body,
      (await stack.call('GET', '/v1/destinations/vault')).body,
    ])
    assert.ok(secrets.every(secret => !answers.includes(secret)))
  })
})
