/** A database server that has zstd and no pzstd: what is staged there crosses the link compressed, and comes back whole. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chown } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { SignedManifest } from '../../model/manifest.ts'
import { sshUserId, startSshd, type TestSshd } from '../servers/sshd.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeShop } from '../support/shop.ts'
import { directory, type Stack, startStack } from './stack.ts'

describe('over SSH, without pzstd', () => {
  let stack: Stack
  let server: TestSshd
  let source: string

  before(async () => {
    stack = await startStack()
    server = await startSshd({ without: ['/usr/bin/pzstd'] })
    source = join(server.home, 'notes.db')
    makeShop(source, { rows: 50_000 })
    await chown(source, sshUserId, sshUserId)
    const staging = await server.disk(256 * 1024)
    await chown(staging, sshUserId, sshUserId)
    const url = `ssh://${server.user}@${server.address}:${server.port}`
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: await directory(stack, 'backups') })
    await stack.expectOk('POST', '/v1/hosts', {
      name: 'db1',
      url,
      tempDir: staging,
      hostKeys: [await server.hostKey()],
      secrets: { privateKey: server.privateKey },
    })
    for (const method of ['physical', 'logical']) {
      const connection = { name: method, url: `sqlite:${source}`, host: 'db1', method }
      await stack.expectOk('POST', '/v1/connections', connection)
    }
  })

  after(async () => {
    await stack?.stop()
    await server?.stop()
  })

  for (const connection of ['physical', 'logical']) {
    test(`${connection}: one frame of the zstd there`, async () => {
      const made = await stack.ended((await stack.backup({ connection, destinations: ['disk'] })).id)
      assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
      const folder = join(stack.directory, 'backups', connection, 'backups', made.backup ?? '')
      const text = execFileSync('cat', [join(folder, 'manifest.json')], { encoding: 'utf8' })
      const { artifacts } = JSON.parse(text) as SignedManifest
      assert.equal(artifacts[0]?.compression.codec, 'zstd')
      assert.equal(artifacts[0]?.compression.longWindow, 23)
      assert.ok(artifacts[0].storedBytes * 4 < artifacts[0].toolBytes * 3, 'it is smaller')
      const target = { connection, database: join(server.home, `${connection} back.db`) }
      const back = await stack.ended((await stack.restore({ backup: made.backup, target })).id)
      assert.equal(back.state, 'succeeded', JSON.stringify(back.error))
      assert.deepEqual(digestSqlite(target.database), digestSqlite(source))
    })
  }
})
