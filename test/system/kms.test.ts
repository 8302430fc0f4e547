/** Keys at AWS KMS: data keys are wrapped and opened by the service; nothing here opens a backup without it. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { KeyView, OperationView, StatusView } from '../../model/views.ts'
import { holdfast } from '../cli/run.ts'
import { type Interceptor, startInterceptor } from '../servers/interceptor.ts'
import { type Moto, startMoto } from '../servers/moto.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeRandomSqlite } from './databases.ts'
import { directory, type Stack, startStack } from './stack.ts'

describe('AWS KMS', () => {
  let stack: Stack
  let moto: Moto
  let front: Interceptor
  let disk: string
  let source: string
  let arn: string

  before(async () => {
    moto = await startMoto()
    front = await startInterceptor(moto.endpoint)
    arn = await moto.createKey()
    // Of the processes only the API asks the service: the worker has no credentials for it.
    stack = await startStack({ worker: false, env: moto.env(front.url) })
    stack.startWorker({ AWS_ENDPOINT_URL_KMS: 'http://127.0.0.1:9', AWS_ACCESS_KEY_ID: '' })
    disk = await directory(stack, 'backups')
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: disk })
    source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 1)
    await stack.expectOk('POST', '/v1/connections', { name: 'lite', url: `sqlite:${source}` })
  })
  after(async () => {
    await stack?.stop()
    await front?.close()
    await moto?.stop()
  })

  const cli = () => ({ HOLDFAST_URL: stack.apiUrl, HOLDFAST_TOKEN: stack.token, HOLDFAST_HOME: stack.home })
  const backup = async (encryptTo: string[]) => {
    const made = await stack.ended(
      (await stack.backup({ connection: 'lite', destinations: ['disk'], encryptTo })).id,
    )
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    return made.backup
  }
  const restore = async (id: string, name: string) => {
    const target = { connection: 'lite', database: join(stack.directory, name) }
    return (await stack.restore({ backup: id, target })).id
  }
  const expectRestored = async (id: string, name: string) => {
    const view = await stack.ended(await restore(id, name))
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    assert.deepEqual(digestSqlite(join(stack.directory, name)), digestSqlite(source))
  }
  const recover = (id: string, args: string[]) =>
    holdfast(
      ['recover', disk, '--backup', id, '--out', join(stack.directory, `${id}-${args.length}.db`), ...args],
      { env: moto.env() },
    )

  test('a key is named by its ARN, and is asked for a proof at once', async () => {
    const add = (awsKms: string) => stack.refused('POST', '/v1/keys', { name: 'cloud', awsKms })
    const alias = await add('arn:aws:kms:eu-central-1:123456789012:alias/backups')
    assert.deepEqual([alias.status, alias.body.code], [422, 'key.invalid'])
    const nobody = await add('arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000')
    assert.equal(nobody.body.code, 'key.kms-unusable', JSON.stringify(nobody.body))
    const made = await holdfast(['keys', 'new', 'cloud', '--aws-kms', arn], { env: cli() })
    assert.equal(made.code, 0, made.stderr)
    const { items } = await stack.expectOk<{ items: KeyView[] }>('GET', '/v1/keys')
    assert.deepEqual(
      items.map(({ name, kind, kid }) => [name, kind, kid]).filter(([name]) => name === 'cloud'),
      [['cloud', 'aws-kms', `aws-kms:${arn}`]],
    )
  })

  test('a backup is written and restored through it, and recovered without a server', async () => {
    const id = await backup(['cloud'])
    await expectRestored(id, 'restored.db')
    const file = join(stack.home, 'keys', 'cloud.json')
    const byFile = await recover(id, ['--key', file])
    assert.equal(byFile.code, 0, byFile.stderr)
    const { fingerprint } = await stack.expectOk<StatusView>('GET', '/v1/status')
    const byArn = await recover(id, ['--aws-kms', arn, '--fingerprint', fingerprint])
    assert.equal(byArn.code, 0, byArn.stderr)
    const checked = await holdfast(['keys', 'escrow-check', disk, '--key', file], { env: moto.env() })
    assert.equal(checked.code, 0, checked.stderr)
    // Who has the file has nothing: it names the key and holds no secret.
    const alone = await holdfast(['recover', disk, '--backup', id, '--out', '-', '--key', file], {
      env: { ...moto.env('http://127.0.0.1:9') },
    })
    assert.match(alone.stderr, /error key\.kms-unreachable/)
    assert.doesNotMatch(await readFile(file, 'utf8'), /privateKey/)
  })

  test('a service that does not answer is waited for; a key that is disabled parks', async () => {
    const id = await backup(['cloud'])
    // The SDK tries thrice, and so does the step.
    front.answer(() => true, 500, '{"__type":"KMSInternalException","message":"made up"}', 6)
    await expectRestored(id, 'waited.db')

    // The emulator goes on with a key that was disabled; this is what AWS says.
    const disabled = () =>
      front.answer(() => true, 400, '{"__type":"DisabledException","message":"the key is disabled"}', 1)
    disabled()
    const refused = await stack.ended(await restore(id, 'disabled.db'))
    assert.deepEqual([refused.state, refused.error?.code], ['failed', 'key.kms-unusable'])
    disabled()
    const unattended = await stack.backup({
      connection: 'lite',
      destinations: ['disk'],
      encryptTo: ['cloud'],
      unattended: true,
    })
    assert.equal((await stack.parked(unattended.id)).error?.code, 'key.kms-unusable')
    await stack.resume(unattended.id)
    assert.equal((await stack.ended(unattended.id)).state, 'succeeded')
  })

  test('a key here is used before the service is asked; a rotation moves backups to it', async () => {
    const both = await backup(['default', 'cloud'])
    const before = front.seen.length
    await expectRestored(both, 'by-the-file.db')
    assert.equal(front.seen.length, before)
    const id = await backup(['default'])
    const { operation } = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      '/v1/keys/default/rotate',
      { to: 'cloud' },
    )
    const rotated = await stack.ended(operation.id)
    assert.equal(rotated.state, 'succeeded', JSON.stringify([rotated.error, rotated.warnings]))
    await stack.expectOk('POST', '/v1/keys/default/retire', {})
    await expectRestored(id, 'by-the-cloud.db')
  })
})
