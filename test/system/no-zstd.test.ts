/**
 * A host without zstd and pzstd: Node packs and unpacks, several frames long. And `recover`, which always unpacks in Node,
 * on an artifact of several frames.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { digestSqlite } from '../support/digest.ts'
import { makeRandomSqlite } from './databases.ts'
import { directory, type Stack, startStack } from './stack.ts'

const root = join(import.meta.dirname, '../..')

describe('without zstd', () => {
  let stack: Stack
  let source = ''

  before(async () => {
    stack = await startStack({ worker: false })
    const bin = await directory(stack, 'bin')
    for (const from of ['/usr/local/bin', '/usr/bin', '/bin']) {
      for (const name of await readdir(from).catch(() => [])) {
        if (!/zstd/.test(name)) await symlink(join(from, name), join(bin, name)).catch(() => {})
      }
    }
    stack.startWorker({ PATH: bin })
    source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 30)
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: await directory(stack, 'backups') })
    for (const method of ['physical', 'logical']) {
      await stack.expectOk('POST', '/v1/connections', { name: method, url: `sqlite:${source}`, method })
    }
  })

  after(async () => await stack?.stop())

  for (const connection of ['physical', 'logical']) {
    test(`${connection}: backed up, restored, recovered`, async () => {
      const made = await stack.ended((await stack.backup({ connection })).id)
      assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
      const target = join(stack.directory, `${connection}-back.db`)
      const { id } = await stack.restore({ backup: made.backup, target: { connection, database: target } })
      const restored = await stack.ended(id)
      assert.equal(restored.state, 'succeeded', JSON.stringify(restored.error))
      assert.deepEqual(digestSqlite(target), digestSqlite(source))

      const key = join(stack.home, 'keys', 'default.json')
      const uri = join(stack.directory, 'backups')
      const again = join(stack.directory, `${connection}-again.db`)
      await mkdir(join(stack.directory, 'elsewhere'), { recursive: true })
      const args = ['recover', uri, '--key', key, '--backup', made.backup, '--restore-to', `sqlite:${again}`]
      await promisify(execFile)(join(root, 'bin/holdfast'), args, { cwd: join(stack.directory, 'elsewhere') })
      assert.deepEqual(digestSqlite(again), digestSqlite(source))
      if (connection === 'physical') {
        const out = join(stack.directory, 'out.db')
        const taken = ['recover', uri, '--key', key, '--backup', made.backup, '--out', out]
        await promisify(execFile)(join(root, 'bin/holdfast'), taken, {
          cwd: join(stack.directory, 'elsewhere'),
        })
        assert.deepEqual(digestSqlite(out), digestSqlite(source))
      }
    })
  }
})
