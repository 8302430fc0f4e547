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
import { directory, eventually, type Stack, startStack } from './stack.ts'

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
      } else {
        // Frames are as long as their content packs to.
        const { frame, storedOffset } = view.error.context ?? {}
        assert.ok(Number(storedOffset) <= at, JSON.stringify(view.error))
        assert.match(view.error.detail, new RegExp(`frame ${frame}, which begins at byte ${storedOffset}\\b`))
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
    assert.equal((await verify(one, 'deep')).state, 'succeeded')
  })

  const scrub = async (body: Record<string, unknown>): Promise<OperationView> =>
    (await stack.expectOk<{ operation: OperationView }>('POST', '/v1/scrub', body)).operation
  const everyBackup = async () => (await stack.expectOk<{ items: BackupView[] }>('GET', '/v1/backups')).items
  const provenAt = (backup: BackupView, level: string) => backup.verified?.proven?.[level] ?? ''

  test('a scrub takes those that were least recently found whole, as many as its budget allows', async () => {
    for (const one of Object.values(made)) await verify(one, 'checksum')
    const order = (await everyBackup()).sort((a, b) =>
      provenAt(a, 'checksum') < provenAt(b, 'checksum') ? -1 : 1,
    )
    const [first, second, third] = order
    assert.ok(first && second && third)
    const since = new Date().toISOString()
    const looked = async () =>
      (await everyBackup())
        .filter(one => provenAt(one, 'checksum') > since)
        .map(one => one.id)
        .sort()
    // One more byte than the first two, and less than the third wants.
    const budgetBytes = first.storedBytes + second.storedBytes + 1
    const view = await stack.ended((await scrub({ budgetBytes })).id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    assert.deepEqual(await looked(), [first.id, second.id].sort())
    // A backup over the budget is taken when it is its turn.
    await stack.ended((await scrub({ budgetBytes: 1 })).id)
    assert.deepEqual(await looked(), [first.id, second.id, third.id].sort())
  })

  test('a scrub names every damaged backup, fails, and looks at the others all the same', async () => {
    const torn = [the('custom'), the('copy')]
    const bytes = await Promise.all(torn.map(one => readFile(one.artifact)))
    for (const [index, one] of torn.entries()) {
      await writeFile(one.artifact, (bytes[index] ?? Buffer.alloc(0)).subarray(0, 3 * mebibyte))
    }
    const since = new Date().toISOString()
    const view = await stack.ended((await scrub({ destination: 'disk', level: 'checksum' })).id)
    assert.equal(view.state, 'failed')
    assert.equal(view.error?.code, 'scrub.damaged', JSON.stringify(view.error))
    for (const { id } of torn) {
      assert.match(view.error.detail, new RegExp(id))
      assert.ok(view.warnings.some(warning => warning.startsWith(id) && /artifact\.truncated/.test(warning)))
    }
    const all = await everyBackup()
    for (const backup of all) {
      const bad = torn.some(({ id }) => id === backup.id)
      assert.equal(backup.verified?.ok, !bad, backup.id)
      if (!bad) assert.ok(provenAt(backup, 'checksum') > since, backup.id)
    }
    // What is known as damaged is not read again.
    const again = await stack.ended((await scrub({ level: 'exists' })).id)
    assert.equal(again.state, 'succeeded', JSON.stringify(again.error))
    assert.match(again.phases[0]?.summary ?? '', /2 known as damaged left out/)
    for (const [index, one] of torn.entries()) await writeFile(one.artifact, bytes[index] ?? '')
    for (const one of torn) assert.equal((await verify(one, 'checksum')).state, 'succeeded')
  })

  test('a scrub whose worker is killed goes on with the next backup', async () => {
    const since = new Date().toISOString()
    const { id } = await scrub({ level: 'deep' })
    const looked = async () => (await everyBackup()).filter(one => provenAt(one, 'deep') > since)
    await eventually('it has looked at two', async () => ((await looked()).length > 1 ? true : undefined))
    // Of the last one the workflow may not have heard: that one is looked at again.
    const before = (await looked())
      .sort((a, b) => (provenAt(a, 'deep') < provenAt(b, 'deep') ? -1 : 1))
      .slice(0, -1)
    await stack.worker?.kill9()
    stack.startWorker()
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    const all = await everyBackup()
    assert.ok(all.every(one => provenAt(one, 'deep') > since))
    for (const one of before) {
      const now = all.find(other => other.id === one.id)
      assert.equal(now && provenAt(now, 'deep'), provenAt(one, 'deep'), 'what was done is not done again')
    }
  })

  test('a scrub on a schedule', async () => {
    await stack.expectOk('POST', '/v1/schedules', {
      name: 'scrub',
      kind: 'scrub',
      spec: { at: ['12:00'], timeZone: 'UTC' },
      options: { level: 'exists', budgetBytes: 50_000_000 },
    })
    const { operation } = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      '/v1/schedules/scrub/trigger',
    )
    const view = await stack.ended(operation.id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    assert.equal(view.kind, 'scrub')
    const refused = await stack.call('POST', '/v1/schedules', {
      name: 'other',
      kind: 'scrub',
      connection: 'pg',
      spec: { at: ['12:00'], timeZone: 'UTC' },
    })
    assert.equal(refused.status, 422)
  })
})
