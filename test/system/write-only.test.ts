/** What was encrypted for public or locked keys: this installation writes it and cannot read it, nor can who steals its home. */
import assert from 'node:assert/strict'
import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import { existsSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { keySidecarSchema } from '../../model/manifest.ts'
import type { AttemptArtifact } from '../../model/records.ts'
import { unwrapDataKey } from '../../storage/wrap.ts'
import { holdfast } from '../cli/run.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeRandomSqlite } from './databases.ts'
import { directory, eventually, type Stack, startStack } from './stack.ts'

describe('a backup for keys that cannot open it here', () => {
  let stack: Stack
  let disk: string
  const passphrase = 'correct horse battery staple'
  const escrow = generateKeyPairSync('rsa', { modulusLength: 2048 })

  before(async () => {
    stack = await startStack()
    disk = await directory(stack, 'backups')
    const source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 20)
    const publicKey = escrow.publicKey.export({ type: 'spki', format: 'pem' })
    await stack.expectOk('POST', '/v1/keys', { name: 'escrow', publicKey })
    await stack.expectOk('POST', '/v1/keys', { name: 'vault', passphrase })
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: disk })
    await stack.expectOk('POST', '/v1/connections', { name: 'lite', url: `sqlite:${source}` })
  })

  after(() => stack?.stop())

  test('for a key that a passphrase locks is read while it is open, and by whoever has file and passphrase', async () => {
    const made = await stack.ended(
      (await stack.backup({ connection: 'lite', destinations: ['disk'], encryptTo: ['vault'] })).id,
    )
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    const restore = async (name: string) => {
      const target = { connection: 'lite', database: join(stack.directory, name) }
      return await stack.ended((await stack.restore({ backup: made.backup, target })).id)
    }
    const refused = await restore('locked.db')
    assert.equal(refused.error?.code, 'key.locked', JSON.stringify(refused))
    assert.match(refused.error.hint, /holdfast keys unlock vault/)
    await stack.expectOk('POST', '/v1/keys/vault/unlock', { passphrase })
    assert.equal((await restore('opened.db')).state, 'succeeded')
    await stack.expectOk('POST', '/v1/keys/vault/lock', {})
    assert.equal((await restore('locked-again.db')).error?.code, 'key.locked')

    const file = join(stack.directory, 'passphrase')
    const recover = (text: string) => {
      writeFileSync(file, `${text}\n`)
      const key = ['--key', join(stack.home, 'keys', 'vault.json'), '--passphrase-file', file]
      return holdfast([
        'recover',
        disk,
        ...key,
        '--backup',
        made.backup,
        '--out',
        join(stack.directory, 'out'),
      ])
    }
    const wrong = await recover('incorrect horse')
    assert.match(wrong.stderr, /error key\.passphrase-wrong/)
    const recovered = await recover(passphrase)
    assert.equal(recovered.code, 0, recovered.stderr)
    assert.deepEqual(
      digestSqlite(join(stack.directory, 'out')),
      digestSqlite(join(stack.directory, 'opened.db')),
    )
  })

  test('for a key that is locked again under way: the restore parks, and goes on when it is open', async () => {
    const made = await stack.ended(
      (await stack.backup({ connection: 'lite', destinations: ['disk'], encryptTo: ['vault'] })).id,
    )
    await stack.expectOk('POST', '/v1/keys/vault/unlock', { passphrase })
    const gate = join(stack.directory, 'gate')
    const wait = ['/bin/sh', '-c', `touch ${gate}.waits; while [ ! -e ${gate} ]; do sleep 0.1; done`]
    await stack.expectOk('PUT', '/v1/connections/lite/hooks', {
      items: [{ name: 'wait', of: 'restore', at: 'before', run: { argv: wait } }],
    })
    const target = { connection: 'lite', database: join(stack.directory, 'parked.db') }
    const { id } = await stack.restore({ backup: made.backup, target })
    await eventually('the restore has planned', async () => (existsSync(`${gate}.waits`) ? true : undefined))
    await stack.expectOk('POST', '/v1/keys/vault/lock', {})
    writeFileSync(gate, '')
    assert.equal((await stack.parked(id)).error?.code, 'key.locked')
    await stack.expectOk('POST', '/v1/keys/vault/unlock', { passphrase })
    await stack.resume(id)
    assert.equal((await stack.ended(id)).state, 'succeeded')
  })

  test('for a public key cannot be read where it was made', async () => {
    const made = await stack.ended(
      (await stack.backup({ connection: 'lite', destinations: ['disk'], encryptTo: ['escrow'] })).id,
    )
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))

    const target = { connection: 'lite', database: join(stack.directory, 'back.db') }
    const restored = await stack.ended((await stack.restore({ backup: made.backup, target })).id)
    assert.equal(restored.state, 'failed')
    assert.equal(restored.error?.code, 'key.missing')
    assert.match(restored.error.detail, /"escrow"/)

    const folder = join(disk, 'lite', 'backups', made.backup)
    const { attemptId } = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8'))
    const sidecar = keySidecarSchema.parse(
      JSON.parse(await readFile(join(folder, attemptId, 'keys-1.json'), 'utf8')),
    )
    const [{ jwe } = assert.fail('a wrapped key')] = sidecar.artifacts
    assert.deepEqual(
      (jwe.recipients as { header: { name: string } }[]).map(one => one.header.name),
      ['escrow'],
    )
    const [recipient] = jwe.recipients as { header: { kid: string } }[]
    const key = {
      name: 'escrow',
      kid: recipient?.header.kid ?? '',
      privateKey: createPrivateKey(escrow.privateKey.export({ type: 'pkcs8', format: 'pem' })).export({
        format: 'jwk',
      }) as Record<string, string>,
    }
    assert.equal((await unwrapDataKey(jwe, [key])).length, 32)

    // Nor is there anything left by which an upload would have gone on.
    await stack.api.terminate()
    const catalog = new DatabaseSync(join(stack.home, 'catalog.sqlite'), { readOnly: true })
    const attempts = catalog.prepare('SELECT artifacts FROM attempts').all() as { artifacts: string }[]
    catalog.close()
    const own = attempts.flatMap(({ artifacts }) =>
      (JSON.parse(artifacts) as AttemptArtifact[]).map(artifact => artifact.encryption?.own),
    )
    assert.deepEqual(own, [null, null, null])
  })
})
