/** Verify, level deep: whole backups of every format, and where exactly one is damaged; what is remembered of it. */
import assert from 'node:assert/strict'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { Manifest } from '../../model/manifest.ts'
import type { BackupView, OperationView, StatusView } from '../../model/views.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { directory, type Stack, startStack } from './stack.ts'

const mebibyte = 1 << 20

interface Made {
  connection: string
  id: string
  artifact: string
  object: string
}

describe('verify, deep', () => {
  let stack: Stack
  let postgres: TestPostgres
  let disk = ''
  const made: Record<string, Made> = {}

  before(async () => {
    stack = await startStack()
    postgres = await startPostgres()
    disk = await directory(stack, 'disk')
    const source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 5)
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 5)
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: disk })
    for (const [name, url, method] of [
      ['file', `sqlite:${source}`, 'physical'],
      ['text', `sqlite:${source}`, 'logical'],
      ['pg', postgres.url('shop'), 'logical'],
    ]) {
      await stack.expectOk('POST', '/v1/connections', { name, url, method })
    }
    for (const [connection, format] of [
      ['file', 'copy'],
      ['text', 'dump'],
      ['pg', 'custom'],
      ['pg', 'directory'],
    ] as const) {
      made[format] = await backup({ connection, format })
      made[`${format}, plain`] = await backup({ connection, format, encryptTo: [] })
    }
  })
  after(async () => {
    await stack?.stop()
    await postgres?.stop()
  })

  const backup = async (request: Record<string, unknown> & { connection: string }): Promise<Made> => {
    const view = await stack.ended((await stack.backup({ ...request, destinations: ['disk'] })).id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    const folder = join(disk, request.connection, 'backups', view.backup)
    const manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as Manifest
    const object = manifest.artifacts[0]?.object ?? ''
    return { connection: request.connection, id: view.backup, artifact: join(folder, object), object }
  }
  const the = (name: string): Made => made[name] ?? assert.fail(name)
  const verify = async ({ id }: Made, level: string): Promise<OperationView> => {
    const path = `/v1/backups/${id}/verify`
    const { operation } = await stack.expectOk<{ operation: OperationView }>('POST', path, { level })
    return await stack.ended(operation.id)
  }
  const shown = async ({ id }: Made) => await stack.expectOk<BackupView>('GET', `/v1/backups/${id}`)

  const words: Record<string, RegExp> = {
    copy: /SQLite database .* pages of 4096 bytes; integrity_check: ok/,
    dump: /SQLite dump, SQL .*statements/,
    custom: /PostgreSQL dump, custom format of shop.*pg_restore lists/,
    directory: /PostgreSQL dump, directory format in a tar of shop.*pg_restore lists/,
  }
  for (const [format, said] of Object.entries(words)) {
    for (const kind of [format, `${format}, plain`]) {
      test(`${kind}: whole`, async () => {
        const view = await verify(the(kind), 'deep')
        assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
        const { verified } = await shown(the(kind))
        assert.ok(verified?.ok && verified.level === 'deep', JSON.stringify(verified))
        assert.match(verified.detail, said)
        assert.deepEqual(Object.keys(verified.proven ?? {}).sort(), ['checksum', 'deep', 'exists'])
        // Nothing of what was unpacked stays.
        const staging = join(stack.home, 'staging')
        assert.ok(!(await readdir(staging).catch(() => [])).some(name => name === view.id))
      })
    }
  }

  for (const kind of ['custom', 'copy, plain']) {
    test(`${kind}: a flipped bit is found where it is, and remembered until a look as deep finds none`, async () => {
      const one = the(kind)
      const bytes = await readFile(one.artifact)
      const at = 2 * mebibyte + 5
      const torn = Buffer.from(bytes)
      torn[at] = (torn[at] ?? 0) ^ 1
      await writeFile(one.artifact, torn)
      const view = await verify(one, 'deep')
      assert.equal(view.state, 'failed')
      assert.equal(view.error?.code, 'artifact.corrupted', JSON.stringify(view.error))
      assert.match(String(view.error.context?.object), new RegExp(`${one.object}$`))
      if (kind === 'custom') {
        assert.equal(view.error.context?.segment, 2)
        assert.equal(view.error.context?.storedOffset, 2 * mebibyte)
      }
      const status = async () =>
        (await stack.expectOk<StatusView>('GET', '/v1/status')).databases.find(
          database => database.connection === one.connection,
        )
      const before = (await status())?.latestBackup?.id
      assert.notEqual(before, one.id)
      await verify(one, 'exists')
      assert.equal((await shown(one)).verified?.ok, false, 'an object that is there is not whole for that')
      await writeFile(one.artifact, bytes)
      await verify(one, 'deep')
      assert.equal((await shown(one)).verified?.ok, true)
    })
  }

  test('cut short', async () => {
    const one = the('directory')
    const bytes = await readFile(one.artifact)
    await writeFile(one.artifact, bytes.subarray(0, bytes.length - 10))
    const view = await verify(one, 'deep')
    assert.equal(view.error?.code, 'artifact.truncated', JSON.stringify(view.error))
    await writeFile(one.artifact, bytes)
  })
})
