/** One backup in several places: which copy is read, what is said when it is not the first, and what a rebuild makes of it. */
import assert from 'node:assert/strict'
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import type { BackupView, OperationView } from '../../model/views.ts'
import { startWorkedApi, type WorkedApi } from './worked.ts'

describe('copies of a backup', () => {
  let stack: WorkedApi
  let backup = ''
  let count = 0
  const place = (name: string) => join(stack.directory, name)
  const show = () => stack.expectOk<BackupView>('GET', `/v1/backups/${backup}`)
  const restore = async (more: Record<string, unknown> = {}) => {
    const database = place(`restored-${++count}.db`)
    const { id } = await stack.restore({ backup, target: { connection: 'notes', database }, ...more })
    const ended = await stack.ended(id)
    const rows =
      ended.state === 'succeeded'
        ? sqlite(database, db => db.prepare('SELECT count(*) AS n FROM t').get()?.n)
        : null
    return { ...ended, rows }
  }
  const sqlite = <T>(path: string, use: (db: DatabaseSync) => T): T => {
    const db = new DatabaseSync(path)
    try {
      return use(db)
    } finally {
      db.close()
    }
  }
  const artifactAt = (name: string) => {
    const folder = join(place(name), 'notes', 'backups', backup)
    const [attempt = ''] = readdirSync(folder).filter(one => one !== 'manifest.json')
    const [object = ''] = readdirSync(join(folder, attempt)).filter(one => one.endsWith('.tink'))
    return join(folder, attempt, object)
  }
  /** In the middle: its first segments are as they were. */
  const damage = (name: string) => {
    const path = artifactAt(name)
    const bytes = readFileSync(path)
    const at = Math.floor(bytes.length / 2)
    bytes[at] = (bytes[at] ?? 0) ^ 1
    writeFileSync(path, bytes)
  }

  before(async () => {
    stack = await startWorkedApi()
    for (const name of ['vault', 'attic']) {
      mkdirSync(place(name))
      await stack.expectOk('POST', '/v1/destinations', { name, uri: place(name) })
    }
    sqlite(place('notes.db'), db =>
      db.exec(
        'CREATE TABLE t (x blob); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO t SELECT randomblob(1000) FROM n',
      ),
    )
    await stack.expectOk('POST', '/v1/connections', { name: 'notes', url: `sqlite:${place('notes.db')}` })
    const made = await stack.backup({ connection: 'notes', destinations: ['vault'] })
    assert.equal((await stack.ended(made.id)).state, 'succeeded')
    backup = made.backup
    cpSync(join(place('vault'), 'notes'), join(place('attic'), 'notes'), {
      recursive: true,
      preserveTimestamps: true,
    })
  })
  after(() => stack?.stop())

  test('a rebuild finds a second copy as one of the same backup', async () => {
    assert.deepEqual(
      (await show()).copies.map(copy => [copy.destination, copy.state]),
      [['vault', 'committed']],
    )
    const rebuilt = await stack.expectOk('POST', '/v1/catalog/rebuild', {})
    assert.deepEqual(rebuilt, { found: 2, added: 1, refused: [] })
    assert.deepEqual(await stack.expectOk('POST', '/v1/catalog/rebuild', {}), {
      found: 2,
      added: 0,
      refused: [],
    })
    const { items } = await stack.expectOk<{ items: BackupView[] }>('GET', '/v1/backups')
    assert.equal(items.length, 1)
    assert.deepEqual(items[0]?.copies.map(copy => copy.destination).sort(), ['attic', 'vault'])
    for (const copy of items[0]?.copies ?? []) {
      assert.equal(copy.uri, `file://${place(copy.destination)}/notes/backups/${backup}`)
      assert.ok(copy.committedAt)
    }
  })

  test('one that is not the same is refused, whatever its name says', async () => {
    mkdirSync(place('other'))
    await stack.expectOk('POST', '/v1/destinations', { name: 'other', uri: place('other') })
    const folder = join(place('other'), 'notes', 'backups', backup)
    cpSync(join(place('vault'), 'notes', 'backups', backup), folder, { recursive: true })
    const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'))
    writeFileSync(join(folder, 'manifest.json'), JSON.stringify({ ...manifest, endedAt: manifest.startedAt }))
    const rebuilt = await stack.expectOk<{ refused: { code: string }[] }>('POST', '/v1/catalog/rebuild', {
      destination: 'other',
    })
    assert.deepEqual(
      rebuilt.refused.map(one => one.code),
      ['manifest.forged'],
    )
    await stack.expectOk('DELETE', '/v1/destinations/other')
    assert.equal((await show()).copies.length, 2)
  })

  test('a place that is gone is passed over, and that is said', async () => {
    const [first] = (await show()).copies
    assert.ok(first)
    renameSync(place(first.destination), place('elsewhere'))
    try {
      const ended = await restore()
      assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
      assert.equal(ended.rows, 3000)
      assert.match(ended.warnings.join('\n'), new RegExp(`The copy at ${first.destination} was passed over`))
      const asked = await restore({ from: first.destination })
      assert.equal(asked.state, 'failed')
      assert.match(asked.error?.code ?? '', /^destination\./)
    } finally {
      renameSync(place('elsewhere'), place(first.destination))
    }
  })

  test('a damaged copy is passed over, whatever of it was read; one that is asked for is refused', async () => {
    const [first, second] = (await show()).copies
    assert.ok(first && second)
    const whole = readFileSync(artifactAt(first.destination))
    damage(first.destination)
    try {
      const ended = await restore()
      assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
      assert.equal(ended.rows, 3000)
      assert.match(ended.warnings.join('\n'), new RegExp(`for ${second.destination}`))
      const { items } = await stack.expectOk<{ items: { source: string; text: string }[] }>(
        'GET',
        `/v1/operations/${ended.id}/log`,
      )
      assert.ok(items.some(entry => entry.source === 'copies'))
      const asked = await restore({ from: first.destination })
      assert.equal(asked.error?.code, 'artifact.corrupted')

      const verify = async (body: Record<string, unknown>): Promise<OperationView> => {
        const begun = await stack.expectOk<{ operation: OperationView }>(
          'POST',
          `/v1/backups/${backup}/verify`,
          body,
        )
        return await stack.ended(begun.operation.id)
      }
      assert.equal((await verify({})).error?.code, 'artifact.corrupted', 'the first is looked at')
      assert.equal((await verify({ from: second.destination })).state, 'succeeded')
      const shown = await show()
      assert.deepEqual(
        shown.copies.map(copy => [copy.destination, copy.verified?.ok]),
        [
          [second.destination, true],
          [first.destination, false],
        ],
        'what is known to be damaged is the last to be read',
      )
      assert.equal(shown.destination, second.destination)
      assert.deepEqual((await restore()).warnings, [])
    } finally {
      writeFileSync(artifactAt(first.destination), whole)
    }
  })

  test('both are gone: the error is the one that may pass', async () => {
    const names = (await show()).copies.map(copy => copy.destination)
    for (const name of names) renameSync(place(name), place(`${name}-gone`))
    try {
      const ended = await restore()
      assert.equal(ended.state, 'failed')
      assert.match(ended.error?.code ?? '', /^destination\./)
    } finally {
      for (const name of names) renameSync(place(`${name}-gone`), place(name))
    }
  })

  const copied = async (body: Record<string, unknown>): Promise<OperationView> => {
    const begun = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      `/v1/backups/${backup}/copy`,
      body,
    )
    return await stack.ended(begun.operation.id)
  }
  const addPlace = async (name: string) => {
    mkdirSync(place(name))
    await stack.expectOk('POST', '/v1/destinations', { name, uri: place(name) })
  }
  const filesOf = (name: string) => {
    const folder = join(place(name), 'notes', 'backups', backup)
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()
    return files.flatMap(file =>
      /\.(json|tink)$/.test(file) ? [[file, readFileSync(join(folder, file)).toString('base64')]] : [],
    )
  }

  test('copied to a third place: every byte and every name as it was', async () => {
    await addPlace('cellar')
    const ended = await copied({ to: 'cellar' })
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    assert.equal(ended.kind, 'copy')
    assert.deepEqual(filesOf('cellar'), filesOf('vault'))
    assert.ok((await show()).copies.some(one => one.destination === 'cellar' && one.state === 'committed'))
    assert.equal((await restore({ from: 'cellar' })).rows, 3000)
    const again = await stack.refused('POST', `/v1/backups/${backup}/copy`, { to: 'cellar' })
    assert.equal(again.code, 'request.exists')
    const nowhere = await stack.refused('POST', `/v1/backups/${backup}/copy`, { to: 'nowhere' })
    assert.equal(nowhere.errors?.[0]?.path, 'to')
    await stack.expectOk('DELETE', '/v1/destinations/cellar')
  })

  test('a damaged copy is not copied: another one is, or none', async () => {
    const [first, second] = (await show()).copies
    assert.ok(first && second)
    const whole = readFileSync(artifactAt(first.destination))
    damage(first.destination)
    try {
      await addPlace('barn')
      const asked = await copied({ to: 'barn', from: first.destination })
      assert.equal(asked.error?.code, 'artifact.corrupted')
      assert.deepEqual(readdirSync(place('barn')).includes('notes'), false, 'nothing of it is left')
      const ended = await copied({ to: 'barn' })
      assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
      assert.match(ended.warnings.join(), new RegExp(`${first.destination} was passed over`))
      assert.deepEqual(filesOf('barn'), filesOf(second.destination))
    } finally {
      writeFileSync(artifactAt(first.destination), whole)
    }
    await stack.expectOk('DELETE', '/v1/destinations/barn')
  })

  test('where it was deleted it is not put again', async () => {
    await addPlace('loft')
    const folder = join(place('loft'), 'notes', 'backups', backup)
    mkdirSync(folder, { recursive: true })
    writeFileSync(
      join(folder, 'deleted.json'),
      JSON.stringify({
        format: 'holdfast-deleted/1',
        backupId: backup,
        at: new Date(),
        by: 'x',
        reason: 'y',
      }),
    )
    assert.equal((await copied({ to: 'loft' })).error?.code, 'backup.deleted')
    await stack.expectOk('DELETE', '/v1/destinations/loft')
  })

  test('a copy that is not there is refused at once', async () => {
    const refused = await stack.refused('POST', '/v1/restores', {
      backup,
      target: { connection: 'notes', database: place('no.db') },
      from: 'nowhere',
    })
    assert.equal(refused.code, 'backup.not-found')
    assert.match(refused.detail, /attic|vault/)
  })

  test('a destination that is taken away takes its copies with it, not the backup', async () => {
    await stack.expectOk('DELETE', '/v1/destinations/vault')
    const shown = await show()
    assert.equal(shown.state, 'committed')
    assert.deepEqual(
      shown.copies.map(copy => copy.destination),
      ['attic'],
    )
    assert.equal((await restore()).rows, 3000)
    await stack.expectOk('DELETE', '/v1/destinations/attic')
    assert.equal((await stack.refused('GET', `/v1/backups/${backup}`)).code, 'backup.not-found')
    rmSync(place('attic'), { recursive: true })
  })
})
