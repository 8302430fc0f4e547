/** When schedules come due: crontab's words, calendars, intervals, and the two days of the year that are not like others. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { dueTimes, isDue, oddTimes, timeZoneNamed } from '../../model/due.ts'
import type { ScheduleSpec } from '../../model/schedules.ts'

const times = (spec: ScheduleSpec, after: string, until: string) =>
  dueTimes(spec, Date.parse(after), Date.parse(until)).map(time => new Date(time).toISOString().slice(0, 16))
const odd = (spec: ScheduleSpec) =>
  oddTimes(spec, Date.parse('2027-01-01T00:00Z'), Date.parse('2027-12-31T00:00Z')).map(time =>
    new Date(time).toISOString().slice(0, 16),
  )
const cron = (line: string, timeZone = 'UTC') => ({ cron: line, timeZone })

describe('cron lines', () => {
  const on = (line: string, after: string, until: string) => times(cron(line), after, until)
  test('values, ranges, lists, steps, names, nicknames', () => {
    assert.deepEqual(on('30 2 * * *', '2026-11-20T00:00Z', '2026-11-22T00:00Z'), [
      '2026-11-20T02:30',
      '2026-11-21T02:30',
    ])
    assert.deepEqual(on('*/20 1-2,23 * * *', '2026-11-20T00:00Z', '2026-11-20T23:30Z'), [
      '2026-11-20T01:00',
      '2026-11-20T01:20',
      '2026-11-20T01:40',
      '2026-11-20T02:00',
      '2026-11-20T02:20',
      '2026-11-20T02:40',
      '2026-11-20T23:00',
      '2026-11-20T23:20',
    ])
    // 2026-11-22 is a Sunday: 0 and 7.
    assert.deepEqual(on('0 3 * NOV sun', '2026-11-16T00:00Z', '2026-11-30T00:00Z'), [
      '2026-11-22T03:00',
      '2026-11-29T03:00',
    ])
    assert.deepEqual(on('0 3 * * 7', '2026-11-16T00:00Z', '2026-11-23T00:00Z'), ['2026-11-22T03:00'])
    assert.deepEqual(on('@weekly', '2026-11-16T00:00Z', '2026-11-23T00:00Z'), ['2026-11-22T00:00'])
    assert.deepEqual(on('5/25 4 * * *', '2026-11-16T00:00Z', '2026-11-17T00:00Z'), [
      '2026-11-16T04:05',
      '2026-11-16T04:30',
      '2026-11-16T04:55',
    ])
  })
  test('either day matches when both are given, as crontab(5) says', () => {
    // 2026-11-13 is a Friday; the other Fridays match, too, and so does Sunday the 1st's follower, the 13th of December.
    assert.deepEqual(on('0 0 13 * fri', '2026-11-12T00:00Z', '2026-12-14T00:00Z'), [
      '2026-11-13T00:00',
      '2026-11-20T00:00',
      '2026-11-27T00:00',
      '2026-12-04T00:00',
      '2026-12-11T00:00',
      '2026-12-13T00:00',
    ])
  })
  test('the 29th of February comes', () => {
    assert.deepEqual(on('0 0 29 2 *', '2026-01-01T00:00Z', '2033-01-01T00:00Z'), [
      '2028-02-29T00:00',
      '2032-02-29T00:00',
    ])
    assert.deepEqual(dueTimes(cron('0 0 31 2 *'), Date.parse('2026-01-01'), Number.POSITIVE_INFINITY, 1), [])
  })
  for (const [line, why] of [
    ['* * * *', /five fields/],
    ['60 * * * *', /minute: "60" is not between 0 and 59/],
    ['0 24 * * *', /hour/],
    ['0 0 0 * *', /day of the month/],
    ['0 0 * 13 *', /month/],
    ['0 0 * * 8', /day of the week/],
    ['*/0 * * * *', /step of 0/],
    ['5-1 * * * *', /ends before it begins/],
    ['0 0 * * funday', /funday/],
    ['0 0 L * *', /L/],
    ['', /five fields/],
  ] as const) {
    test(`"${line}" is refused in words`, () => {
      assert.throws(
        () => dueTimes(cron(line), 0, 1),
        (error: Error) => error instanceof RangeError && why.test(error.message),
      )
    })
  }
})

describe('the days on which the clock changes', () => {
  const berlin = (line: string) => cron(line, 'Europe/Berlin')
  test('a time of day that is missing runs as long after midnight as ever', () => {
    // On 2027-03-28 the clock goes from 02:00 (UTC+1) to 03:00 (UTC+2).
    assert.deepEqual(times(berlin('30 2 * * *'), '2027-03-27T00:00Z', '2027-03-30T00:00Z'), [
      '2027-03-27T01:30',
      '2027-03-28T01:30',
      '2027-03-29T00:30',
    ])
    assert.deepEqual(odd(berlin('30 2 * * *')), ['2027-03-28T01:30', '2027-10-31T00:30'])
    assert.deepEqual(odd(berlin('30 * * * *')), ['2027-10-31T00:30', '2027-10-31T01:30'])
    assert.deepEqual(odd(berlin('30 4 * * *')), [])
    assert.deepEqual(odd(cron('30 2 * * *')), [])
  })
  test('one that is moved onto another one is still one run', () => {
    assert.deepEqual(times(berlin('30 2,3 * * *'), '2027-03-28T00:00Z', '2027-03-29T00:00Z'), [
      '2027-03-28T01:30',
    ])
  })
  test('a time of day that comes twice runs at the first', () => {
    // On 2026-10-25 the clock goes from 03:00 (UTC+2) back to 02:00 (UTC+1).
    assert.deepEqual(times(berlin('30 2 * * *'), '2026-10-24T12:00Z', '2026-10-26T12:00Z'), [
      '2026-10-25T00:30',
      '2026-10-26T01:30',
    ])
    assert.equal(isDue(berlin('30 2 * * *'), Date.parse('2026-10-25T01:30Z')), false)
  })
  test('every hour is every hour', () => {
    assert.deepEqual(times(berlin('0 * * * *'), '2026-10-24T23:30Z', '2026-10-25T03:00Z'), [
      '2026-10-25T00:00',
      '2026-10-25T01:00',
      '2026-10-25T02:00',
      '2026-10-25T03:00',
    ])
    assert.deepEqual(times(berlin('0 * * * *'), '2027-03-27T23:30Z', '2027-03-28T02:00Z'), [
      '2027-03-28T00:00',
      '2027-03-28T01:00',
      '2027-03-28T02:00',
    ])
  })
  test('a change at midnight, one of half an hour, a day that never was', () => {
    // Havana: 2027-03-14 has no 00:30. Lord Howe moves by thirty minutes. Samoa had no 2011-12-30.
    assert.deepEqual(times(cron('30 0 * * *', 'America/Havana'), '2027-03-13T12:00Z', '2027-03-15T12:00Z'), [
      '2027-03-14T05:30',
      '2027-03-15T04:30',
    ])
    assert.deepEqual(
      times(cron('15 2 * * *', 'Australia/Lord_Howe'), '2026-10-03T00:00Z', '2026-10-05T00:00Z'),
      ['2026-10-03T15:45', '2026-10-04T15:15'],
    )
    assert.equal(
      times(cron('0 12 * * *', 'Pacific/Apia'), '2011-12-28T23:00Z', '2012-01-01T00:00Z').length,
      3,
    )
  })
  test('a time of day comes once a day, in every zone, in every year', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...Intl.supportedValuesOf('timeZone')),
        fc.integer({ min: 0, max: 23 }),
        fc.integer({ min: 0, max: 59 }),
        fc.integer({ min: 2020, max: 2035 }),
        (timeZone, hour, minute, year) => {
          const spec = cron(`${minute} ${hour} * * *`, timeZone)
          const found = dueTimes(spec, Date.UTC(year, 0, 1), Date.UTC(year + 1, 0, 1))
          for (const [index, time] of found.entries()) {
            const hours = (time - (found[index - 1] ?? Date.UTC(year, 0, 1))) / 3_600_000
            // A station in Antarctica has moved its clock by three hours.
            assert.ok(
              hours <= 27 && (index === 0 || hours >= 21),
              `${hours} h before ${new Date(time).toISOString()}`,
            )
            if (index % 30 === 0) assert.equal(isDue(spec, time), true)
          }
        },
      ),
      { numRuns: 40 },
    )
  })
})

test('times of day on some days, in a zone', () => {
  const spec = { at: ['02:30', '14:00'], weekdays: [1, 4], timeZone: 'America/New_York' }
  assert.deepEqual(times(spec, '2026-11-22T00:00Z', '2026-11-27T00:00Z'), [
    '2026-11-23T07:30',
    '2026-11-23T19:00',
    '2026-11-26T07:30',
    '2026-11-26T19:00',
  ])
})

test('intervals know no zone', () => {
  assert.deepEqual(
    times({ everySeconds: 6 * 3600, offsetSeconds: 1800 }, '2026-10-24T22:00Z', '2026-10-25T13:00Z'),
    ['2026-10-25T00:30', '2026-10-25T06:30', '2026-10-25T12:30'],
  )
})

test('zones', () => {
  assert.equal(timeZoneNamed('europe/berlin'), 'Europe/Berlin')
  assert.equal(timeZoneNamed('Europe/Kyiv'), 'Europe/Kyiv')
  assert.equal(timeZoneNamed('US/Pacific'), 'US/Pacific')
  for (const wrong of ['+02:00', 'us/pacific', 'Europe/Bärlin', 'Mars/Olympus', '', '../etc/passwd']) {
    assert.equal(timeZoneNamed(wrong), undefined, wrong)
  }
})
