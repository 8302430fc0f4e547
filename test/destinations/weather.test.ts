/** The conformance suite again, over a network and before stores that fail all the time in every way. */
import assert from 'node:assert/strict'
import type { DestinationRecord } from '../../model/records.ts'
import { startAzurite } from '../servers/azurite.ts'
import { startGcs } from '../servers/gcs.ts'
import { startVersitygw } from '../servers/versitygw.ts'
import { conformance, type Subject } from './conformance.ts'
import { badWeather, s3Error, startFaultyStore } from './faults.ts'
import { azureSubject, gcsSubject, s3Subject } from './subjects.ts'

const silenceSeconds = 2
/** Of each kind, in each suite. */
const silences = 5

interface Server {
  endpoint: string
  destinationRecord(prefix: string): DestinationRecord
  stop(): Promise<void>
}

function inBadWeather<S extends Server>(
  name: string,
  start: () => Promise<S>,
  subjectOf: (server: S, prefix: string, silenceSeconds: number) => Promise<Subject>,
  throttled: Parameters<typeof badWeather>[0],
): void {
  conformance(`${name} in bad weather`, async () => {
    const server = await start()
    const faulty = await startFaultyStore(server.endpoint)
    const { fault, counts } = badWeather(throttled, silences)
    faulty.fault = fault
    const endpoint = `${faulty.endpoint}${new URL(server.endpoint).pathname.replace(/\/$/, '')}`
    const record = server.destinationRecord('weather')
    const through = { ...record, settings: { ...record.settings, endpoint } }
    const subject = await subjectOf(
      { ...server, destinationRecord: () => through },
      'weather',
      silenceSeconds,
    )
    return {
      ...subject,
      async close() {
        await subject.close()
        await faulty.close()
        await server.stop()
        for (const kind of ['answer', 'slow', 'narrow', 'reset', 'lose-answer', 'cut', 'short']) {
          assert.ok((counts[kind] ?? 0) > 10, `${kind} was met ${counts[kind]} times`)
        }
        for (const kind of ['silence', 'stall']) assert.equal(counts[kind], silences, kind)
      },
    }
  })
}

const soon = { 'retry-after': '0' }
inBadWeather('S3', startVersitygw, s3Subject, {
  status: 503,
  body: s3Error('SlowDown', 'Please reduce your request rate.'),
  headers: soon,
})
inBadWeather('GCS', startGcs, gcsSubject, { status: 503, body: '', headers: soon })
inBadWeather('Azure', startAzurite, azureSubject, {
  status: 503,
  body: '',
  headers: { ...soon, 'x-ms-error-code': 'ServerBusy' },
})
