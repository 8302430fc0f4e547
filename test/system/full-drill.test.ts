/**
 * Everything is lost but a destination and a key file: an empty Holdfast of its own restores each newest backup, says what it
 * saw, and leaves nothing.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { readRuntime } from '../../cli/context.ts'
import { signedDrillReportSchema } from '../../model/drill-report.ts'
import type { DrillView } from '../../model/views.ts'
import { verifyDrillReport } from '../../storage/drill-report.ts'
import { eventually, holdfast, start } from '../cli/run.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { type Scratch, scratch } from '../support/temporary.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { processesWith } from './inspect.ts'
import { startStack } from './stack.ts'

const run = promisify(execFile)

describe('a full-recovery drill', () => {
  let here: Scratch
  let postgres: TestPostgres
  let ground = ''
  let disk = ''
  let key = ''

  before(async () => {
    here = await scratch()
    disk = join(here.path, 'disk')
    key = join(here.path, 'from-the-safe.json')
    await mkdir(disk)
    ground = await mkdtemp(join(tmpdir(), 'holdfast-full-'))
    if (process.getuid?.() === 0) await run('chown', ['postgres:', ground])
    postgres = await startPostgres()
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 2)
    const notes = join(here.path, 'notes.db')
    makeRandomSqlite(notes, 2)
    const stack = await startStack()
    try {
      await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: disk })
      for (const [name, url, method] of [
        ['notes', `sqlite:${notes}`, 'physical'],
        ['shop', postgres.url('shop'), 'logical'],
        ['whole', postgres.url('shop'), 'physical'],
      ]) {
        await stack.expectOk('POST', '/v1/connections', { name, url, method, canary: true })
        const ended = await stack.ended((await stack.backup({ connection: name })).id)
        assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
      }
      await cp(join(stack.home, 'keys', 'default.json'), key)
    } finally {
      // With its home, its catalog and its Temporal.
      await stack.stop()
    }
    await rm(notes)
  })
  after(async () => {
    await postgres?.stop()
    if (ground !== '') await rm(ground, { recursive: true, force: true })
    await here?.[Symbol.asyncDispose]()
  })

  const full = (...more: string[]) =>
    holdfast(
      ['drill', 'full', disk, '--key', key, '--directory', ground, ...more, '--json'],
      // What of a Holdfast there may be on this machine is not asked.
      { env: { HOLDFAST_URL: 'http://127.0.0.1:9', HOLDFAST_CATALOG_URL: 'sqlite:/nowhere/catalog' } },
    )
  const expectNothingLeft = async () => {
    assert.deepEqual(await readdir(ground), [])
    assert.deepEqual(processesWith('.holdfast-full-drill-'), [])
    const databases = await postgres.sql('SELECT datname FROM pg_database ORDER BY 1')
    assert.deepEqual(databases.split('\n').sort(), ['postgres', 'shop', 'template0', 'template1'])
  }

  test('from nothing but the destination and the key: every connection is proven', async () => {
    const reports = join(here.path, 'reports')
    const { code, stdout, stderr } = await full('--server', postgres.url('shop'), '--out', reports)
    assert.equal(code, 0, `${stdout}\n${stderr}`)
    const said = JSON.parse(stdout)
    assert.deepEqual([said.verdict, said.found, said.refused], ['passed', 3, []])
    assert.deepEqual(said.drills.map((one: { connection: string }) => one.connection).sort(), [
      'notes',
      'shop',
      'whole',
    ])
    assert.ok(said.upMs > 0 && said.drillsMs > 0)
    for (const name of ['notes', 'shop', 'whole']) {
      const report = signedDrillReportSchema.parse(
        JSON.parse(await readFile(join(reports, `${name}.json`), 'utf8')),
      )
      assert.deepEqual([report.verdict, report.rpo.by], ['passed', 'canary'], name)
      await verifyDrillReport(report, report.fingerprint)
      assert.match(await readFile(join(reports, `${name}.html`), 'utf8'), /<svg/)
    }
    await expectNothingLeft()
  })

  test('what is damaged fails it, and the others are drilled all the same', async () => {
    const folder = join(disk, 'notes', 'backups')
    const [backup = ''] = await readdir(folder)
    const entries = await readdir(join(folder, backup), { withFileTypes: true })
    const attempt = join(folder, backup, entries.find(entry => entry.isDirectory())?.name ?? '')
    const artifact = (await readdir(attempt)).find(name => !name.startsWith('keys-')) ?? ''
    const path = join(attempt, artifact)
    const bytes = await readFile(path)
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 0x10
    await rm(path)
    await writeFile(path, bytes)
    const { code, stdout } = await full('--connection', 'notes', 'shop', '--quick')
    assert.equal(code, 1, stdout)
    const { verdict, drills } = JSON.parse(stdout)
    assert.equal(verdict, 'failed')
    const why = Object.fromEntries(
      drills.map((one: { connection: string; error: string | null }) => [one.connection, one.error]),
    )
    assert.match(why.notes, /^artifact\.corrupted/)
    // Nobody said on which server.
    assert.match(why.shop, /--server|on which server/)
    await expectNothingLeft()
  })

  test('a key that opens nothing says so', async () => {
    const other = join(here.path, 'other.json')
    const text = JSON.parse(await readFile(key, 'utf8'))
    await writeFile(other, JSON.stringify({ ...text, installations: {} }))
    const { code, stdout } = await holdfast([
      'drill',
      'full',
      disk,
      '--key',
      other,
      '--directory',
      ground,
      '--json',
    ])
    assert.equal(code, 1, stdout)
    const { verdict, refused } = JSON.parse(stdout)
    assert.deepEqual([verdict, refused.length], ['failed', 3])
    await expectNothingLeft()
  })

  test('killed: `holdfast up` with the home that it named ends the drill and removes the copy', async () => {
    const args = ['drill', 'full', disk, '--key', key, '--directory', ground, '--connection', 'shop']
    const killed = start([...args, '--server', postgres.url('shop')])
    const home = await eventually('it names its home', async () =>
      (await readdir(ground)).find(name => name.startsWith('.holdfast-full-drill-')),
    ).then(name => join(ground, name))
    const drills = async () => {
      const { api } = readRuntime(home) ?? {}
      if (api === undefined) return undefined
      const token = await readFile(join(home, 'api.token'), 'utf8').catch(() => undefined)
      if (token === undefined) return undefined
      const headers = { authorization: `Bearer ${token.trim()}` }
      const answer = await fetch(`${api}/v1/drills`, { headers }).catch(() => undefined)
      return answer?.ok ? ((await answer.json()) as { items: DrillView[] }).items : undefined
    }
    await eventually('the copy is made', async () => {
      const made = await postgres.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'holdfast%'")
      return made === '0' ? undefined : true
    })
    killed.child.kill('SIGKILL')
    await killed.ended
    const up = start(['up'], { env: { HOLDFAST_HOME: home, HOLDFAST_API_LISTEN: '127.0.0.1:0' } })
    try {
      await eventually('the copy is gone', async () =>
        (await drills())?.[0]?.tornDownAt == null ? undefined : true,
      )
    } finally {
      up.child.kill('SIGTERM')
      await up.ended
    }
    await rm(home, { recursive: true })
    await expectNothingLeft()
  })
})
