/** Schedules as requests, without a worker; and on a real Temporal what it makes of them on the days the clock changes. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import { dueTimes } from '../../model/due.ts'
import type { ScheduleSpec } from '../../model/schedules.ts'
import type { Problem } from '../../model/views.ts'
import { startTemporal, type TestTemporal } from '../servers/temporal.ts'
import { type Detail, dueIn } from '../system/schedules.ts'
import { eventually as patiently } from '../system/stack.ts'
import { eventually, startTestApi, type TestApi } from './support.ts'

const nightly = { cron: '30 2 * * *', timeZone: 'Europe/Berlin' }

describe('requests', () => {
  let t: TestApi
  before(async () => {
    t = await startTestApi()
    await t.call('POST', '/v1/keys', { name: 'default' })
    await t.addSqlite('shop')
    await t.addDestination('vault')
  })
  after(() => t?.stop())

  const fields = (problem: Problem) =>
    (problem.errors ?? []).map(({ path, message }) => `${path}: ${message}`)
  const add = (body: object) => t.refused('POST', '/v1/schedules', { name: 'n', connection: 'shop', ...body })

  for (const [spec, expected] of [
    [{ ...nightly, cron: '61 * * * *' }, /^spec\.cron: minute: "61" is not between/],
    [{ ...nightly, cron: 'whenever' }, /^spec\.cron: a cron line has five fields/],
    [{ ...nightly, cron: '0 0 31 2 *' }, /^spec\.cron: never comes due/],
    [{ ...nightly, timeZone: 'Europe/Atlantis' }, /^spec\.timeZone: not a time zone/],
    [{ ...nightly, timeZone: '+02:00' }, /^spec\.timeZone: not a time zone/],
    [{ cron: '@daily' }, /^spec\.timeZone: name the zone/],
    [{}, /^spec: give one of/],
    [{ ...nightly, at: ['02:30'] }, /^spec: give one of/],
    [{ at: ['24:00'], timeZone: 'UTC' }, /^spec\.at\.0: use a time of day/],
    [{ at: ['02:30'], days: [31], months: [2], timeZone: 'UTC' }, /^spec: never comes due/],
    [{ at: ['02:30'], weekdays: [7], timeZone: 'UTC' }, /^spec\.weekdays\.0/],
    [{ everySeconds: 30 }, /^spec\.everySeconds: must be at least 60/],
    [{ everySeconds: 3600, offsetSeconds: 3600 }, /^spec\.offsetSeconds: must be less/],
    [{ everySeconds: 3600, timeZone: 'UTC' }, /^spec\.timeZone: goes with/],
    [{ ...nightly, weekdays: [1] }, /^spec\.weekdays: goes with at only/],
    [{ ...nightly, sometimes: true }, /^spec\.sometimes: there is no such field/],
  ] as const) {
    test(`spec ${JSON.stringify(spec)} is refused`, async () => {
      const problem = await add({ spec })
      assert.equal(problem.code, 'request.invalid')
      assert.match(fields(problem)[0] ?? '', expected)
    })
  }

  test('what a backup by hand would be refused for is refused when it is scheduled', async () => {
    const refused = async (body: object) => fields(await add({ spec: nightly, ...body }))[0]
    assert.match((await refused({ destinations: ['attic'] })) ?? '', /no destination named attic/)
    assert.match((await refused({ options: { format: 'directory' } })) ?? '', /format/)
    assert.match((await refused({ options: { encryptTo: ['nobody'] } })) ?? '', /no key named nobody/)
    assert.match((await refused({ options: { level: 'exists' } })) ?? '', /^options\.level: /)
    assert.match((await refused({ kind: 'verify', options: { jobs: 2 } })) ?? '', /^options\.jobs: /)
    assert.match((await refused({ overlap: 'never' })) ?? '', /^overlap: /)
    assert.match((await refused({ catchUpSeconds: 1 })) ?? '', /^catchUpSeconds: /)
    assert.match(
      (await refused({ startAt: '2030-01-02T00:00:00Z', endAt: '2030-01-01T00:00:00Z' })) ?? '',
      /^endAt: /,
    )
    assert.equal((await add({ spec: nightly, connection: 'nowhere' })).code, 'request.not-found')
    assert.equal(
      (await add({ spec: nightly, kind: 'verify', connection: 'nowhere' })).code,
      'request.not-found',
    )
  })

  test('is kept while Temporal is away; asked twice it is one; a taken name is refused', async () => {
    const body = { name: 'nightly', connection: 'shop', spec: nightly, note: 'the books' }
    const key = { 'idempotency-key': 'one' }
    const first = await t.call<Detail>('POST', '/v1/schedules', body, key)
    assert.equal(first.status, 201, JSON.stringify(first.body))
    assert.deepEqual(first.body.destinations, ['vault'], 'the only one there is, from now on')
    assert.equal(first.body.words, 'cron 30 2 * * *, Europe/Berlin')
    assert.equal((await t.call('POST', '/v1/schedules', body, key)).status, 201)
    assert.equal((await t.refused('POST', '/v1/schedules', body)).code, 'request.exists')
    const { items } = (await t.call<{ items: Detail[] }>('GET', '/v1/schedules')).body
    assert.deepEqual(
      items.map(item => item.name),
      ['nightly'],
    )
    const expected = dueTimes(nightly, Date.now(), Number.POSITIVE_INFINITY, 5)
    assert.deepEqual(
      items[0]?.next,
      expected.map(time => new Date(time).toISOString()),
    )
    assert.equal((await t.refused('POST', '/v1/schedules/nightly/trigger', {})).code, 'temporal.unreachable')
    assert.equal((await t.refused('GET', '/v1/schedules/weekly')).code, 'request.not-found')
    assert.equal((await t.call('DELETE', '/v1/schedules/nightly')).status, 204)
  })

  test('came due while Temporal was away for too long: missed, and why is said', async () => {
    const { spec, firstDueAt } = dueIn(2, 60)
    await t.call('POST', '/v1/schedules', { name: 'alone', connection: 'shop', spec, catchUpSeconds: 60 })
    const run = await patiently('it is missed', async () => {
      const { missed } = (await t.call<Detail>('GET', '/v1/schedules/alone')).body
      return missed.find(({ dueAt }) => dueAt === firstDueAt)
    })
    // The next one came due a minute later, just as the window of the first was over.
    assert.match(run.reason ?? '', /^(not-taken-up|superseded)$/)
    assert.equal(run.operation, null)
    await t.call('DELETE', '/v1/schedules/alone')
  })
})

describe('what Temporal carries', () => {
  let temporal: TestTemporal
  let connection: Connection
  let client: Client
  let t: TestApi
  before(async () => {
    temporal = await startTemporal()
    connection = await Connection.connect({ address: temporal.address })
    client = new Client({ connection })
    t = await startTestApi({ temporal: temporal.address })
    await t.call('POST', '/v1/keys', { name: 'default' })
    await t.addSqlite('shop')
    await t.addDestination('vault')
  })
  after(async () => {
    await t?.stop()
    await connection?.close()
    await temporal?.stop()
  })

  const matching = async (name: string, from: number, until: number): Promise<number[]> => {
    const at = (time: number) => ({ seconds: time / 1000, nanos: 0 }) as never
    const { startTime } = await client.workflowService.listScheduleMatchingTimes({
      namespace: 'default',
      scheduleId: `schedule/${name}`,
      startTime: at(from),
      endTime: at(until),
    })
    return (startTime ?? []).map(time => Number(time.seconds) * 1000)
  }

  // Temporal's calendars match the clock literally, and where an hour comes twice they lose one of the two in some zones. It
  // is told of such moments one by one. It may wake a starter once more, then: that one is told that nothing is due.
  for (const [name, spec, twice] of [
    ['berlin', nightly, ['2027-10-31T01:30']],
    ['berlin-hourly', { cron: '15 * * * *', timeZone: 'Europe/Berlin' }, []],
    ['new-york', { at: ['01:30', '02:30'], timeZone: 'America/New_York' }, ['2027-11-07T06:30']],
    [
      'london',
      { cron: '*/30 0-3 * * sun', timeZone: 'Europe/London' },
      ['2027-10-31T01:00', '2027-10-31T01:30'],
    ],
    ['lord-howe', { cron: '15 2 1-7 * *', timeZone: 'Australia/Lord_Howe' }, []],
    ['either-day', { cron: '30 2 28 * fri', timeZone: 'Europe/Berlin' }, []],
    ['six-hours', { everySeconds: 21_600, offsetSeconds: 1800 }, []],
    ['utc', { cron: '30 2 * * *', timeZone: 'UTC' }, []],
  ] as [string, ScheduleSpec, string[]][]) {
    test(`${name}: no due time is without its starter`, async () => {
      const made = await t.call('POST', '/v1/schedules', { name, connection: 'shop', spec })
      assert.equal(made.status, 201, JSON.stringify(made.body))
      // As far as moved times are told: over both changes of the coming year.
      const from = Date.now()
      const until = from + 390 * 86_400_000
      const due = dueTimes(spec, from, until)
      const woken: number[] = []
      for (let start = from; start < until; start += 30 * 86_400_000) {
        woken.push(...(await matching(name, start, Math.min(until, start + 30 * 86_400_000 - 1000))))
      }
      const more = woken.filter(time => !due.includes(time))
      assert.deepEqual(
        due.filter(time => !woken.includes(time)),
        [],
      )
      for (const time of more)
        assert.ok(twice.includes(new Date(time).toISOString().slice(0, 16)), String(time))
      await t.call('DELETE', `/v1/schedules/${name}`)
    })
  }

  test('a backfill of what was before the schedule wakes starters that are owed nothing', async () => {
    const spec = { cron: '30 1 * * *', timeZone: 'America/New_York' }
    await t.call('POST', '/v1/schedules', { name: 'fall', connection: 'shop', spec })
    const handle = client.schedule.getHandle('schedule/fall')
    await handle.backfill({
      start: new Date('2025-11-02T00:00:00Z'),
      end: new Date('2025-11-03T00:00:00Z'),
      overlap: 'ALLOW_ALL',
    })
    const woken = await eventually('both starters are there', async () => {
      const { recentActions } = (await handle.describe()).info
      return recentActions.length === 2 ? recentActions : undefined
    })
    const answers = []
    for (const { action } of woken) {
      const dueAt = action.workflow.workflowId.replace('scheduled/fall-', '')
      const { args } = (await handle.describe()).action
      const [{ scheduleId }] = args as [{ scheduleId: string }]
      const response = await fetch(`${t.api.url}/internal/v1/startDue`, {
        method: 'POST',
        headers: { authorization: `Bearer ${t.workerToken}`, 'content-type': 'application/json' },
        body: JSON.stringify({ args: [{ scheduleId, dueAt }] }),
      })
      answers.push(((await response.json()) as { value: { state: string } }).value.state)
    }
    // Before the schedule was made nothing was due at all.
    assert.deepEqual(answers, ['not-due', 'not-due'])
    await t.call('DELETE', '/v1/schedules/fall')
  })

  test('two processes that keep the same schedules agree; nothing is changed where nothing differs', async () => {
    await t.call('POST', '/v1/schedules', { name: 'calm', connection: 'shop', spec: nightly })
    const handle = client.schedule.getHandle('schedule/calm')
    const rounds = async () => {
      const before = t.log().split('brought back').length
      await new Promise(resolve => setTimeout(resolve, 1500))
      assert.equal(t.log().split('brought back').length, before)
      return (await handle.describe()).info.lastUpdatedAt
    }
    assert.equal((await rounds())?.getTime(), (await rounds())?.getTime())
    assert.equal((await t.call<Detail>('GET', '/v1/schedules/calm')).body.drift, null)
  })

  test('a removal while Temporal is away is made up for; what others keep there stays', async () => {
    await t.call('POST', '/v1/schedules', { name: 'gone', connection: 'shop', spec: nightly })
    const handle = client.schedule.getHandle('schedule/gone')
    const options = await handle.describe()
    await t.call('DELETE', '/v1/schedules/gone')
    // As if the removal had not reached Temporal.
    const again = (scheduleId: string, installation?: string) => {
      const [input] = options.action.args as [Record<string, unknown>]
      return client.schedule.create({
        scheduleId,
        spec: { intervals: [{ every: '1d' }] },
        action: {
          type: 'startWorkflow',
          workflowType: options.action.workflowType,
          taskQueue: 'holdfast',
          args: [{ ...input, ...(installation === undefined ? {} : { installation }) }],
        },
      })
    }
    const stray = await again('schedule/gone')
    const foreign = await again('schedule/foreign', 'another-installation')
    await eventually('the stray is removed', () =>
      stray.describe().then(
        () => undefined,
        () => true,
      ),
    )
    assert.equal((await foreign.describe()).scheduleId, 'schedule/foreign')
  })
})
