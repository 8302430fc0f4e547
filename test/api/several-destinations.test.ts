/** One backup at several destinations, in one pass of the tool: each in the end has the same, and what is away gets it later. */
import assert from 'node:assert/strict'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import type { ScheduleView } from '../../model/schedule-schemas.ts'
import type { BackupView, DestinationView, OperationView } from '../../model/views.ts'
import { eventually } from './support.ts'
import { startWorkedApi, type WorkedApi } from './worked.ts'

describe('a backup at several destinations', () => {
  let stack: WorkedApi
  const place = (name: string) => join(stack.directory, name)
  let told = () => ''

  before(async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'holdfast-notify-'))
    const program = join(scratch, 'notify')
    writeFileSync(program, `#!/bin/sh\ncat >> ${scratch}/events\n`)
    chmodSync(program, 0o755)
    stack = await startWorkedApi({
      HOLDFAST_PARK_RETRY_SECONDS: '1',
      HOLDFAST_NOTIFY_COMMAND: program,
    })
    told = () => (existsSync(`${scratch}/events`) ? readFileSync(`${scratch}/events`, 'utf8') : '')
    for (const name of ['vault', 'attic', 'barn']) {
      mkdirSync(place(name))
      await stack.expectOk('POST', '/v1/destinations', { name, uri: place(name) })
    }
    const db = new DatabaseSync(place('notes.db'))
    db.exec(
      'CREATE TABLE t (x blob); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO t SELECT randomblob(1000) FROM n',
    )
    db.close()
    for (const [name, method] of [
      ['notes', 'physical'],
      ['dumped', 'logical'],
    ] as const) {
      await stack.expectOk('POST', '/v1/connections', {
        name,
        url: `sqlite:${place('notes.db')}`,
        method,
      })
    }
  })
  after(() => stack?.stop())

  const show = (id: string) => stack.expectOk<BackupView>('GET', `/v1/backups/${id}`)
  const made = async (connection: string, destinations: string[], more = {}): Promise<OperationView> => {
    const { id } = await stack.backup({ connection, destinations, ...more })
    return await stack.ended(id)
  }
  const filesOf = (name: string, { connection, backup }: { connection: string | null; backup: string }) => {
    const folder = join(place(name), connection ?? '', 'backups', backup)
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()
    return files.flatMap(file =>
      /\.(json|tink)$/.test(file) ? [[file, readFileSync(join(folder, file)).toString('base64')]] : [],
    )
  }
  const away = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    renameSync(place(name), place(`${name}-away`))
    try {
      return await work()
    } finally {
      renameSync(place(`${name}-away`), place(name))
    }
  }
  const copiesOf = async (id: string) =>
    (await show(id)).copies.map(copy => [copy.destination, copy.state]).sort()
  const arrived = (id: string, name: string) =>
    eventually(`the copy is at ${name}`, async () =>
      (await show(id)).copies.some(copy => copy.destination === name && copy.state === 'committed')
        ? true
        : undefined,
    )

  for (const connection of ['notes', 'dumped']) {
    const shape = connection === 'notes' ? 'staged' : 'streamed'

    test(`${shape}: in one pass, byte for byte the same`, async () => {
      const view = await made(connection, ['vault', 'attic', 'barn'])
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      assert.deepEqual(view.destinations, ['vault', 'attic', 'barn'])
      assert.deepEqual(await copiesOf(view.backup), [
        ['attic', 'committed'],
        ['barn', 'committed'],
        ['vault', 'committed'],
      ])
      const first = filesOf('vault', view)
      assert.equal(first.length, 3)
      assert.deepEqual(filesOf('attic', view), first)
      assert.deepEqual(filesOf('barn', view), first)
    })

    test(`${shape}: one is away: partial, said, and copied there by itself once it is back`, async () => {
      const view = await away('attic', () => made(connection, ['attic', 'vault']))
      assert.equal(view.state, 'partial')
      assert.equal(view.error?.code, 'backup.partial')
      assert.match(view.error?.detail ?? '', /is at vault, and not at attic/)
      assert.ok(view.checks.some(check => check.id === 'destination-attic' && check.answer === 'warn'))
      await eventually('somebody is told', async () =>
        new RegExp(`operation.partial.*${view.id}`).test(told()) ? true : undefined,
      )
      await arrived(view.backup, 'attic')
      assert.deepEqual(filesOf('attic', view), filesOf('vault', view))
      const { copies } = await show(view.backup)
      const copied = copies.find(copy => copy.destination === 'attic')?.operation
      assert.ok(copied)
      assert.equal((await stack.ended(copied)).state, 'succeeded')
    })
  }

  test('all are away: it fails as one destination would', async () => {
    const view = await away('attic', () => away('vault', () => made('notes', ['attic', 'vault'])))
    assert.equal(view.state, 'failed')
    assert.match(view.error?.code ?? '', /^destination\./)
  })

  test('a destination that stands in for one that is away, and brings the backup home', async () => {
    const changed = await stack.expectOk<DestinationView>('PATCH', '/v1/destinations/vault', {
      failover: 'barn',
    })
    assert.equal(changed.failover, 'barn')
    const refused = await stack.refused('DELETE', '/v1/destinations/barn')
    assert.equal(refused.code, 'request.in-use')
    assert.equal(
      (await stack.refused('PATCH', '/v1/destinations/vault', { failover: 'vault' })).errors?.[0]?.path,
      'failover',
    )
    const home = await made('dumped', ['vault'])
    assert.equal(home.state, 'succeeded')
    assert.deepEqual(await copiesOf(home.backup), [['vault', 'committed']])

    const view = await away('vault', () => made('dumped', ['vault']))
    assert.equal(view.state, 'partial')
    assert.match(view.error?.detail ?? '', /is at barn, and not at vault/)
    assert.ok((await copiesOf(view.backup)).some(([name]) => name === 'barn'))
    await arrived(view.backup, 'vault')
    assert.deepEqual(filesOf('vault', view), filesOf('barn', view))
  })

  test('a failover of one backup: in the place of what the destinations say, or none', async () => {
    const instead = await away('attic', () => made('dumped', ['attic'], { failover: 'barn' }))
    assert.equal(instead.state, 'partial')
    assert.match(instead.error?.detail ?? '', /is at barn, and not at attic/)
    await arrived(instead.backup, 'attic')
    const none = await away('vault', () => made('dumped', ['vault'], { failover: null }))
    assert.equal(none.state, 'failed')
    for (const [failover, message] of [
      ['nowhere', /no destination named nowhere/],
      ['attic', /one of the destinations/],
    ] as const) {
      const body = { connection: 'dumped', destinations: ['attic'], failover }
      const [field] = (await stack.refused('POST', '/v1/backups', body)).errors ?? []
      assert.equal(field?.path, 'failover')
      assert.match(field?.message ?? '', message)
    }
  })

  test('by a schedule: what is not everywhere has run, and is no miss', async () => {
    const added = await stack.expectOk<ScheduleView>('POST', '/v1/schedules', {
      name: 'both',
      connection: 'dumped',
      destinations: ['attic', 'vault'],
      options: { failover: 'barn' },
      spec: { everySeconds: 86_400 },
    })
    assert.deepEqual(added.destinations, ['attic', 'vault'])
    // Also what only stands in is counted on.
    // Once no copying uses it any more.
    await eventually('the schedule is what keeps it', async () =>
      /Schedule both/.test((await stack.refused('DELETE', '/v1/destinations/barn')).detail)
        ? true
        : undefined,
    )
    const view = await away('attic', async () => {
      const { operation } = await stack.expectOk<{ operation: OperationView }>(
        'POST',
        '/v1/schedules/both/trigger',
        {},
      )
      return await stack.ended(operation.id)
    })
    assert.equal(view.state, 'partial')
    assert.ok((await copiesOf(view.backup)).some(([name, state]) => name === 'barn' && state === 'committed'))
    const { lastRun, lastMissed } = await stack.expectOk<ScheduleView>('GET', '/v1/schedules/both')
    assert.deepEqual([lastRun?.state, lastRun?.outcome, lastMissed], ['started', 'partial', null])
    await arrived(view.backup, 'attic')
    const edited = await stack.expectOk<ScheduleView>('PATCH', '/v1/schedules/both', {
      destinations: ['vault'],
    })
    assert.deepEqual(edited.destinations, ['vault'])
    await stack.expectOk('DELETE', '/v1/schedules/both')
    for (const kind of ['verify', 'scrub']) {
      const connection = kind === 'scrub' ? {} : { connection: 'dumped' }
      const body = {
        name: kind,
        kind,
        ...connection,
        destinations: ['attic', 'vault'],
        spec: { everySeconds: 86_400 },
      }
      assert.equal((await stack.refused('POST', '/v1/schedules', body)).errors?.[0]?.path, 'destinations')
    }
  })

  test('a copying that somebody cancels is not begun again', async () => {
    renameSync(place('attic'), place('attic-away'))
    try {
      const view = await made('notes', ['attic', 'vault'])
      const copying = await eventually('a copying was begun', async () =>
        (await show(view.backup)).copies.find(copy => copy.operation !== null),
      )
      await stack.expectOk('POST', `/v1/operations/${copying.operation}/cancel`)
      assert.equal((await stack.ended(copying.operation ?? '')).state, 'cancelled')
      await eventually('nobody wants it any more', async () =>
        (await show(view.backup)).copies.some(copy => copy.state === 'missing' && copy.wantedUntil === null)
          ? true
          : undefined,
      )
    } finally {
      renameSync(place('attic-away'), place('attic'))
    }
  })

  test('what cannot be: the same twice, one that is not there', async () => {
    const twice = await stack.refused('POST', '/v1/backups', {
      connection: 'notes',
      destinations: ['vault', 'vault'],
    })
    assert.equal(twice.status, 422)
    const none = await stack.refused('POST', '/v1/backups', {
      connection: 'notes',
      destinations: ['vault', 'nowhere'],
    })
    assert.equal(none.errors?.[0]?.path, 'destinations.1')
  })
})
