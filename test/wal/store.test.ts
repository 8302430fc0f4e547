/** The log archive in real stores, and what networks and people do to it. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { createKey, recipientOf } from '../../storage/keys.ts'
import { maxSmallBytes } from '../../storage/limits.ts'
import { enveloped, type LogReader, newSealingKey, type SealingKey } from '../../storage/wal/envelope.ts'
import { fetchLogFile } from '../../storage/wal/fetch.ts'
import { signerOf } from '../../storage/wal/header.ts'
import { logFileKey, streamKey } from '../../storage/wal/layout.ts'
import { beginStream, pushLogFile } from '../../storage/wal/push.ts'
import { unwrapDataKey } from '../../storage/wrap.ts'
import { type FaultyStore, s3Error, startFaultyStore } from '../destinations/faults.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { failing, inDestination } from '../storage/helpers.ts'
import { scratch } from '../support/temporary.ts'
import { mebibyte, newArchiver, segmentOf, systemIdentifier } from './segments.ts'

const stream = { connection: 'shop', systemIdentifier }
const name = '000000010000000000000003'
const archiver = newArchiver()
const trusted = { [archiver.archiver]: archiver.publicKey }
const options = { trusted, patienceSeconds: 5 }
const clear: LogReader = { trusted, dataKey: () => assert.fail('nothing is encrypted') }

const push = async (
  destination: Destination,
  content: Buffer,
  {
    as = name,
    key = null,
    by = archiver,
  }: { as?: string; key?: SealingKey | null; by?: typeof archiver } = {},
) => {
  const file = { ...stream, name: as, content }
  await beginStream(destination, stream, by, options)
  return await pushLogFile(destination, file, await enveloped(file, signerOf(by), key), options)
}
const fetch = (destination: Destination, as = name, reader = clear, patienceSeconds = 5) =>
  fetchLogFile(destination, { ...stream, name: as }, reader, { patienceSeconds })

describe('an archive in a directory', () => {
  it('gives back what it was given, of each kind of file', () =>
    inDestination(async destination => {
      const files: Record<string, Buffer> = {
        [name]: segmentOf(name),
        [`${name}.partial`]: segmentOf(name, { seed: 'partial' }),
        [`${name}.00000028.backup`]: Buffer.from('START WAL LOCATION: 0/3000028\n'),
        '00000002.history': Buffer.from('1\t0/3000000\tno recovery target specified\n'),
      }
      for (const [as, content] of Object.entries(files))
        assert.equal(await push(destination, content, { as }), 'stored')
      for (const [as, content] of Object.entries(files))
        assert.deepEqual(await fetch(destination, as), content)
    }))

  it('is read by head, tail and zstd', () =>
    inDestination(async (destination, directory) => {
      const content = segmentOf(name)
      await push(destination, content)
      const path = `${directory}/${logFileKey(stream, name)}`
      const script = 'tail -n +2 "$1" | zstd -d -q'
      const byHand = execFileSync('sh', ['-c', script, 'sh', path], { maxBuffer: 4 * mebibyte })
      assert.deepEqual(byHand, content)
      const header = JSON.parse(execFileSync('head', ['-n', '1', path], { encoding: 'utf8' }))
      assert.equal(header.name, name)
      assert.equal(header.contentBytes, mebibyte)
    }))

  it('opens with the key that it was encrypted for, and with no other', async () => {
    await using place = await scratch()
    const key = await createKey(place.path, 'mine', {})
    const other = await createKey(place.path, 'other', {})
    await inDestination(async destination => {
      const content = segmentOf(name, { random: true })
      const sealing = await newSealingKey([recipientOf(key)])
      await push(destination, content, { key: sealing })
      await push(destination, segmentOf('000000010000000000000004'), {
        as: '000000010000000000000004',
        key: sealing,
      })
      const stored = Buffer.from((await destination.read(logFileKey(stream, name))) ?? [])
      assert.equal(stored.indexOf(content.subarray(5000, 5064)), -1, 'nothing of it is in the clear')
      const opening = (keys: (typeof key)[]): LogReader => ({
        trusted,
        dataKey: (_, jwe) => unwrapDataKey(jwe, keys),
      })
      assert.deepEqual(await fetch(destination, name, opening([other, key])), content)
      await failing('key.missing', fetch(destination, name, opening([other])))
    })
  })

  it('takes the same again, by another process with another key, and keeps the first', () =>
    inDestination(async destination => {
      await using place = await scratch()
      const recipients = [recipientOf(await createKey(place.path, 'mine', {}))]
      const content = segmentOf(name)
      await push(destination, content, { key: await newSealingKey(recipients) })
      const first = await destination.read(logFileKey(stream, name))
      assert.equal(
        await push(destination, content, { key: await newSealingKey(recipients) }),
        'there-already',
      )
      assert.deepEqual(await destination.read(logFileKey(stream, name)), first)
    }))

  it('refuses another file of the same name, and keeps the first', () =>
    inDestination(async destination => {
      const content = segmentOf(name)
      await push(destination, content)
      const error = await failing('wal.different', push(destination, segmentOf(name, { seed: 'other' })))
      assert.equal(error.context.archiver, archiver.archiver)
      assert.deepEqual(await fetch(destination), content)
    }))

  it('of two that push different files at once takes one', () =>
    inDestination(async destination => {
      const files = [segmentOf(name, { seed: 'a' }), segmentOf(name, { seed: 'b' })]
      const ends = await Promise.allSettled(files.map(content => push(destination, content)))
      assert.deepEqual(ends.map(end => end.status).sort(), ['fulfilled', 'rejected'])
      const winner = files[ends.findIndex(end => end.status === 'fulfilled')]
      assert.deepEqual(await fetch(destination), winner)
    }))

  it('takes segments that are larger than what is put at once, and that do not shrink', () =>
    inDestination(async destination => {
      const content = segmentOf(name, { segmentBytes: maxSmallBytes, random: true })
      assert.equal(await push(destination, content), 'stored')
      assert.ok(((await destination.stat(logFileKey(stream, name)))?.bytes ?? 0) > maxSmallBytes)
      assert.equal(await push(destination, content), 'there-already')
      const other = segmentOf(name, { segmentBytes: maxSmallBytes, random: true })
      await failing('wal.different', push(destination, other))
      assert.deepEqual(await fetch(destination), content)
      for await (const { key } of destination.listUploads('')) assert.fail(`an upload of ${key} is open`)
    }))

  it('says "not there" only where the archive is', () =>
    inDestination(async destination => {
      await failing('wal.no-archive', fetch(destination))
      await push(destination, segmentOf(name))
      assert.equal(await fetch(destination, '000000010000000000000004'), undefined)
      await destination.remove(streamKey(stream))
      await failing('wal.no-archive', fetch(destination, '000000010000000000000004'))
    }))

  it('finds out what was cut, flipped, exchanged, or signed by somebody else', () =>
    inDestination(async destination => {
      const key = logFileKey(stream, name)
      const next = '000000010000000000000004'
      await push(destination, segmentOf(name))
      await push(destination, segmentOf(next), { as: next })
      const whole = Buffer.from((await destination.read(key)) ?? [])
      const line = whole.indexOf(0x0a) + 1
      const flipped = (at: number) => {
        const copy = Buffer.from(whole)
        copy.writeUInt8(copy.readUInt8(at) ^ 1, at)
        return copy
      }
      const cases: [Buffer, 'wal.damaged' | 'wal.forged'][] = [
        [whole.subarray(0, whole.length - 1), 'wal.damaged'],
        [whole.subarray(0, line), 'wal.damaged'],
        [whole.subarray(0, 20), 'wal.damaged'],
        [Buffer.alloc(0), 'wal.damaged'],
        [Buffer.concat([whole, Buffer.of(0)]), 'wal.damaged'],
        [flipped(whole.length - 1), 'wal.damaged'],
        [flipped(line + 10), 'wal.damaged'],
        [
          Buffer.from(
            whole.toString('latin1').replace('"contentBytes":1048576', '"contentBytes":1048577'),
            'latin1',
          ),
          'wal.forged',
        ],
        [Buffer.from((await destination.read(logFileKey(stream, next))) ?? []), 'wal.forged'],
      ]
      for (const [bytes, code] of cases) {
        await destination.put(key, bytes)
        await failing(code, fetch(destination))
      }
      const foreign = newArchiver()
      await destination.remove(key)
      const file = { ...stream, name, content: segmentOf(name) }
      await destination.put(key, await enveloped(file, signerOf(foreign), null))
      await failing('wal.forged', fetch(destination))
      await failing('wal.forged', push(destination, file.content))
    }))
})

describe('an archive in S3', () => {
  let server: Versitygw
  let proxy: FaultyStore
  before(async () => {
    server = await startVersitygw()
    proxy = await startFaultyStore(server.endpoint)
  })
  after(async () => {
    await proxy?.close()
    await server?.stop()
  })

  /** By way of the proxy, below a prefix of its own. */
  const inS3 = async (act: (destination: Destination) => Promise<void>): Promise<void> => {
    const record = server.destinationRecord(`wal-${randomBytes(4).toString('hex')}`)
    const faulty = { ...record, settings: { ...record.settings, endpoint: proxy.endpoint } }
    const destination = await openDestination(faulty, server.secrets)
    proxy.fault = () => ({ kind: 'pass' })
    proxy.seen.length = 0
    try {
      await act(destination)
    } finally {
      proxy.fault = () => ({ kind: 'pass' })
      await destination.close()
    }
  }
  const isPut = (method: string | undefined, url: string | undefined) =>
    method === 'PUT' && url?.includes(`${name}.wal`) === true
  const isGet = (method: string | undefined, url: string | undefined) =>
    method === 'GET' && url?.includes(`${name}.wal`) === true
  const atFirst = (matches: typeof isPut, fault: ReturnType<FaultyStore['fault']>, times = 1) => {
    let left = times
    proxy.fault = ({ method, url }) => {
      if (!matches(method, url) || left === 0) return { kind: 'pass' }
      left -= 1
      return fault
    }
  }

  it('takes a file once, whatever becomes of the answer', () =>
    inS3(async destination => {
      const content = segmentOf(name)
      await beginStream(destination, stream, archiver, options)
      atFirst(isPut, { kind: 'lose-answer' })
      await push(destination, content)
      proxy.fault = () => ({ kind: 'pass' })
      assert.deepEqual(await fetch(destination), content)
      assert.equal(await push(destination, content), 'there-already')
    }))

  it('waits out what passes, and says what does not', () =>
    inS3(async destination => {
      const content = segmentOf(name)
      const busy = { kind: 'answer', status: 503, body: s3Error('SlowDown', 'Slow down') } as const
      atFirst(isPut, busy, 2)
      assert.equal(await push(destination, content), 'stored')
      atFirst(isGet, busy, Number.POSITIVE_INFINITY)
      const error = await fetch(destination, name, clear, 1).then(
        () => assert.fail('it cannot know'),
        (thrown: { code?: string }) => thrown,
      )
      assert.match(String(error.code), /^destination\./)
    }))

  it('fetches again what was cut in the middle', () =>
    inS3(async destination => {
      const content = segmentOf(name, { random: true })
      await push(destination, content)
      atFirst(isGet, { kind: 'cut', afterBytes: 300_000 })
      assert.deepEqual(await fetch(destination), content)
    }))

  it('takes an upload that was cut in the middle for none', () =>
    inS3(async destination => {
      const content = segmentOf(name, { random: true })
      atFirst(isPut, { kind: 'reset', afterBytes: 300_000 })
      assert.equal(await push(destination, content), 'stored')
      assert.deepEqual(await fetch(destination), content)
    }))

  it('compares without fetching the whole', () =>
    inS3(async destination => {
      const content = segmentOf(name, { random: true })
      await push(destination, content)
      let got = 0
      proxy.fault = ({ method, url, headers }) => {
        if (isGet(method, url)) {
          const [, from, to] = /bytes=(\d+)-(\d+)/.exec(headers.range ?? '') ?? []
          got += Number(to) - Number(from) + 1
        }
        return { kind: 'pass' }
      }
      assert.equal(await push(destination, content), 'there-already')
      assert.ok(got > 0 && got <= 64 << 10, `${got} bytes`)
    }))

  it('of two that push different files at once takes one', () =>
    inS3(async destination => {
      const files = [segmentOf(name, { seed: 'a' }), segmentOf(name, { seed: 'b' })]
      await beginStream(destination, stream, archiver, options)
      const ends = await Promise.allSettled(files.map(content => push(destination, content)))
      assert.deepEqual(ends.map(end => end.status).sort(), ['fulfilled', 'rejected'])
      const winner = files[ends.findIndex(end => end.status === 'fulfilled')]
      assert.deepEqual(await fetch(destination), winner)
    }))

  it('takes large segments by parts', () =>
    inS3(async destination => {
      const content = segmentOf(name, { segmentBytes: maxSmallBytes, random: true })
      assert.equal(await push(destination, content), 'stored')
      assert.equal(await push(destination, content), 'there-already')
      assert.deepEqual(await fetch(destination), content)
    }))
})
