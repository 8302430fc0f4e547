/**
 * Backups compressed in every way: made, shown, restored and recovered, on a host with the programs for it and on one
 * without any of them.
 */
import assert from 'node:assert/strict'
import { readdir, readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { BackupView } from '../../model/views.ts'
import { holdfast } from '../cli/run.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeRandomSqlite } from './databases.ts'
import { directory, type Process, type Stack, startStack } from './stack.ts'

const ways = {
  long: {
    ask: { level: 9, longWindow: 27, threads: 2 },
    suffix: '.zst',
    words: 'zstd, level 9, window 2^27',
  },
  lz4: { ask: { method: 'lz4' }, suffix: '.lz4', words: 'lz4' },
  gzip: { ask: { method: 'gzip', level: 1 }, suffix: '.gz', words: 'gzip, level 1' },
  none: { ask: { method: 'none' }, suffix: '', words: 'not compressed' },
  auto: { ask: { method: 'auto' }, suffix: '.zst', words: 'zstd, level 3, where it shrinks' },
}
type Way = keyof typeof ways

describe('compression', () => {
  let stack: Stack
  let source = ''
  let disk = ''
  let worker: Process
  const made: Partial<Record<Way, string>> = {}

  const run = async (...args: string[]) => {
    const env = { HOLDFAST_URL: stack.apiUrl, HOLDFAST_TOKEN: stack.token }
    const { code, stdout, stderr } = await holdfast(args, { env })
    assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}`)
    return stdout
  }
  const backUp = async (connection: string, way: Way): Promise<string> => {
    const ended = await stack.ended((await stack.backup({ connection, compression: ways[way].ask })).id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    return ended.backup
  }
  let restores = 0
  const restore = async (connection: string, backup: string) => {
    restores += 1
    const database = join(stack.directory, `back-${restores}.db`)
    const { id } = await stack.restore({ backup, target: { connection, database } })
    const ended = await stack.ended(id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    assert.deepEqual(digestSqlite(database), digestSqlite(source))
  }

  before(async () => {
    stack = await startStack({ worker: false })
    worker = stack.startWorker()
    source = join(stack.directory, 'source.db')
    // Random: several frames of what does not shrink.
    makeRandomSqlite(source, 6)
    disk = await directory(stack, 'backups')
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: disk })
    for (const method of ['physical', 'logical']) {
      await stack.expectOk('POST', '/v1/connections', { name: method, url: `sqlite:${source}`, method })
    }
  })
  after(async () => await stack?.stop())

  for (const way of Object.keys(ways) as Way[]) {
    test(`${way}: streamed, restored and recovered; its sizes are shown`, async () => {
      const id = await backUp('logical', way)
      made[way] = id
      const folder = join(disk, 'logical/backups', id)
      const manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8'))
      const [entry] = manifest.artifacts
      assert.equal(entry.object, `${manifest.attemptId}/${entry.name}${ways[way].suffix}.tink`)
      const { artifacts } = await stack.expectOk<BackupView>('GET', `/v1/backups/${id}`)
      const { toolBytes, compressedBytes, storedBytes } = entry
      const sizes = { toolBytes, compressedBytes, storedBytes }
      const { name, format } = entry
      // Random bytes as hexadecimal digits: half of what lz4 cannot see.
      const advice = artifacts[0]?.advice ?? null
      assert.equal(advice !== null, way === 'lz4')
      const shown = { name, format, compression: ways[way].words, encrypted: true, ...sizes, advice }
      assert.deepEqual(artifacts, [shown])
      assert.ok(compressedBytes < storedBytes && storedBytes < 1.01 * toolBytes)
      await restore('logical', id)
      const out = join(stack.directory, `${way}.sql`)
      await run('recover', folder, '--key', join(stack.home, 'keys', 'default.json'), '--out', out)
      assert.equal((await readFile(out)).length, toolBytes)
    })
  }

  for (const way of ['long', 'auto'] as const) {
    test(`${way}: by way of staging`, async () => await restore('physical', await backUp('physical', way)))
  }

  test('what is compressed already is said, with what to do about it', async () => {
    const advice = /already compressed: zstd saved \d %\. With the compression "auto"/
    assert.match(await run('backup', 'physical', '--compression', 'zstd:1,threads=3'), advice)
    const shown = await run('backups', 'show', 'physical:latest')
    assert.match(shown, advice)
    assert.match(shown, / → .* \(zstd, level 1, 1\.0×\) → .* encrypted/)
    const auto = await run('backup', 'physical', '--compression', 'auto')
    assert.match(auto, /already compressed: \d+ % of it is stored as it came/)
  })

  test('what a method cannot have is refused', async () => {
    for (const [compression, path] of [
      [{ method: 'lz4', level: 3 }, 'compression.level'],
      [{ method: 'gzip', level: 12 }, 'compression.level'],
      [{ method: 'gzip', longWindow: 27 }, 'compression.longWindow'],
      [{ method: 'brotli' }, 'compression.method'],
    ] as const) {
      const { status, body } = await stack.refused('POST', '/v1/backups', {
        connection: 'logical',
        compression,
      })
      assert.equal(status, 422)
      assert.equal((body as { errors?: { path: string }[] }).errors?.[0]?.path, path)
    }
  })

  test('a host without the programs reads all of it, and makes all but the long mode', async () => {
    await worker.terminate()
    const bin = await directory(stack, 'bin')
    for (const from of ['/usr/local/bin', '/usr/bin', '/bin']) {
      for (const name of await readdir(from).catch(() => [])) {
        if (!/zstd|lz4|gzip|pigz/.test(name)) await symlink(join(from, name), join(bin, name)).catch(() => {})
      }
    }
    stack.startWorker({ PATH: bin })
    for (const way of Object.keys(ways) as Way[]) await restore('logical', made[way] ?? '')
    for (const way of ['lz4', 'gzip'] as const) await restore('logical', await backUp('logical', way))
    const { id } = await stack.backup({ connection: 'logical', compression: { longWindow: 27 } })
    const refused = await stack.ended(id)
    assert.equal(refused.error?.code, 'host.tool-missing')
  })
})
