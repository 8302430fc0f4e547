/** Reading from stores over a network: side by side within a window, over broken connections, and by way of a kept file. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { spoolAt } from '../../activities/spool.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { hashArtifact, openArtifact } from '../../storage/reader.ts'
import { pieceBytes } from '../../storage/stored-bytes.ts'
import { type Fault, type FaultyStore, startFaultyStore } from '../destinations/faults.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { chunked, collect, failing, mebibyte, type Stored, store } from './helpers.ts'

const pass: Fault = { kind: 'pass' }
const pieces = 6

describe('reading an artifact from a store', () => {
  let server: Versitygw
  let faulty: FaultyStore
  let destination: Destination
  let directory = ''
  const artifacts: Record<'sealed' | 'plain', Stored | undefined> = { sealed: undefined, plain: undefined }
  /** Where the ranges began that were asked for. */
  let asked: number[] = []
  const fault = (decide: (from: number) => Fault) => {
    faulty.fault = ({ method, headers }: IncomingMessage) => {
      const [, from] = /^bytes=(\d+)-/.exec(headers.range ?? '') ?? []
      if (method !== 'GET' || from === undefined) return pass
      asked.push(Number(from))
      return decide(Number(from))
    }
  }
  const kept = () => join(directory, 'kept')
  const readingOf = (stored: Stored | undefined) => {
    assert.ok(stored)
    const { key, entry, secrets } = stored
    return { destination, key, entry, dataKey: secrets?.dataKey ?? null, patienceSeconds: 20 }
  }

  before(async () => {
    server = await startVersitygw()
    faulty = await startFaultyStore(server.endpoint)
    const record = server.destinationRecord('reading')
    destination = await openDestination(
      { ...record, settings: { ...record.settings, endpoint: faulty.endpoint } },
      server.secrets,
    )
    const body = randomBytes(pieces * pieceBytes - mebibyte)
    for (const kind of ['sealed', 'plain'] as const) {
      artifacts[kind] = await store(destination, kind, chunked(body, mebibyte), { plain: kind === 'plain' })
      const { entry } = artifacts[kind]
      assert.equal(Math.ceil(entry.storedBytes / pieceBytes), pieces)
    }
  })
  after(async () => {
    await destination?.close()
    await faulty?.close()
    await server?.stop()
  })
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'holdfast-reading-'))
    asked = []
    fault(() => pass)
  })
  afterEach(async () => {
    await rm(directory, { recursive: true, force: true })
  })

  it('asks for several pieces side by side, and for no more while the reader pauses', async () => {
    const stream = openArtifact(readingOf(artifacts.sealed))
    await new Promise(resolve => stream.once('readable', resolve))
    const window = destination.capabilities.readsAtOnce
    while (asked.length < window) await sleep(10)
    // Whatever would be asked for beyond the window is asked for by now: the pieces within it are here.
    await sleep(500)
    assert.deepEqual(
      asked.toSorted((a, b) => a - b),
      Array.from({ length: window }, (_, index) => index * pieceBytes),
    )
    const first: Buffer = stream.read()
    const rest = await collect(stream)
    assert.equal(first.length + rest.length, artifacts.sealed?.entry.compressedBytes)
    assert.equal(asked.length, pieces)
  })

  it('goes on where a connection broke, in each piece by itself', async () => {
    let cuts = 0
    fault(from => {
      if (from % pieceBytes !== 0) return pass
      cuts += 1
      return { kind: 'cut', afterBytes: 3 * mebibyte }
    })
    await hashArtifact(readingOf(artifacts.sealed))
    assert.equal(cuts, pieces)
    const resumed = asked.filter(from => from % pieceBytes !== 0)
    assert.equal(resumed.length, pieces)
    for (const from of resumed) assert.ok(from % pieceBytes > 0 && from % pieceBytes <= 3 * mebibyte)
  })

  it('a piece that never comes ends all of it', async () => {
    fault(from => (from === 2 * pieceBytes ? { kind: 'answer', status: 403, body: '' } : pass))
    await failing('destination.denied', hashArtifact(readingOf(artifacts.sealed)))
  })

  for (const kind of ['sealed', 'plain'] as const) {
    describe(`${kind}, by way of a file`, () => {
      const open = () => openArtifact({ ...readingOf(artifacts[kind]), spool: spoolAt(kept()) })
      /** As a run that is killed leaves it. */
      const begun = async (bytes: number) => {
        await collect(open())
        await truncate(kept(), bytes)
        asked = []
      }

      it('keeps what it fetches, and gives out the same', async () => {
        const direct = await collect(openArtifact(readingOf(artifacts[kind])))
        assert.ok(direct.equals(await collect(open())))
        assert.equal((await stat(kept())).size, artifacts[kind]?.entry.storedBytes)
        assert.equal((await stat(kept())).mode & 0o777, 0o600)
        asked = []
        assert.ok(direct.equals(await collect(open())))
        assert.deepEqual(asked, [], 'nothing is fetched twice')
      })

      it('goes on behind what an earlier run has kept', async () => {
        const direct = await collect(openArtifact(readingOf(artifacts[kind])))
        const at = 3 * pieceBytes + 12_345
        await begun(at)
        assert.ok(direct.equals(await collect(open())))
        assert.equal(Math.min(...asked), at)
      })

      it('does not believe what was kept: damage in it is found, and fetched anew by the next run', async () => {
        await begun(3 * pieceBytes)
        const bytes = await readFile(kept())
        bytes.fill(0, 2 * pieceBytes, 2 * pieceBytes + 4096)
        await writeFile(kept(), bytes)
        await failing('staging.changed', collect(open()))
        asked = []
        await collect(open())
        assert.equal(Math.min(...asked), 0)
      })

      it('a file that is longer than the artifact gives no more than that', async () => {
        await begun(artifacts[kind]?.entry.storedBytes ?? 0)
        await writeFile(kept(), randomBytes(4096), { flag: 'a' })
        await collect(open())
      })

      it('blames the store for what the store gave', async () => {
        // Bytes of another artifact than the manifest's.
        const reading = readingOf(artifacts[kind])
        const entry = { ...reading.entry, storedSha256: '0'.repeat(64) }
        const spool = spoolAt(kept())
        await failing('artifact.corrupted', collect(openArtifact({ ...reading, entry, spool })))
      })
    })
  }
})
