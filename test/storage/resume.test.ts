/** Uploads of staged data that go on after a crash, and that never send other bytes under the same key. */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { appendFile, mkdir, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { zstdDecompressSync } from 'node:zlib'
import { localFiles } from '../../hosts/files.ts'
import { wholeCompression } from '../../model/compression.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { Destination } from '../../storage/destination.ts'
import { openJournal, type PartJournal } from '../../storage/journal.ts'
import { openLocalDestination } from '../../storage/local/index.ts'
import { createOpener, type SealSecrets } from '../../storage/tink.ts'
import { writeArtifact } from '../../storage/writer.ts'
import { chunked, failing, mebibyte, secretsFor } from './helpers.ts'

const partBytes = mebibyte
const parallelParts = 3

interface Staged {
  root: string
  destination: Destination
  file: string
  tool: Buffer
  journalPath: string
  key: string
  uploadId: string
  seal: SealSecrets
  /** Numbers of the parts that were sent to the store by `resume`. */
  sent: number[]
  resume(seal?: SealSecrets): Promise<void>
}

/** A staged file of 12 MiB (about as much stored), an open upload for it, and a journal beside the file. */
async function staged(act: (staged: Staged) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-resume-'))
  const root = join(directory, 'store')
  await mkdir(root)
  const destination = openLocalDestination(pathToFileURL(root).href)
  try {
    const tool = randomBytes(12 * mebibyte)
    const file = join(directory, 'dump')
    await writeFile(file, tool)
    const key = 'shop/backups/b/attempt/a.zst.tink'
    const uploadId = await destination.openUpload(key)
    const seal = secretsFor('holdfast/1\ni\nb\na')
    const journalPath = join(directory, 'journal', 'a.parts')
    const sent: number[] = []
    const watched: Destination = {
      ...destination,
      putPart: async (k, u, part, options) => {
        sent.push(part.number)
        return await destination.putPart(k, u, part, options)
      },
    }
    const resume = async (secrets = seal) => {
      const existingParts = await destination.listParts(key, uploadId)
      assert.ok(existingParts)
      const written = await writeArtifact({
        destination: watched,
        key,
        uploadId,
        source: createReadStream(file),
        framing: 'raw',
        compression: wholeCompression({ level: 1 }),
        seal: secrets,
        journal: await openJournal(localFiles, journalPath),
        existingParts,
        partBytes,
        parallelParts,
      })
      await destination.completeUpload(key, uploadId, written.parts)
    }
    await act({ root, destination, file, tool, journalPath, key, uploadId, seal, sent, resume })
  } finally {
    await destination.close()
    await rm(directory, { recursive: true, force: true })
  }
}

/** Starts the upload in a process of its own and kills it when `parallelParts` parts hang between store and answer. */
async function killedInMidUpload(
  { root, file, key, uploadId, journalPath, seal }: Staged,
  stopAfterParts: number,
) {
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url')
  const { dataKey, salt, noncePrefix, associatedData } = seal
  const input = {
    root,
    file,
    key,
    uploadId,
    journal: journalPath,
    seal: { dataKey: text(dataKey), salt: text(salt), noncePrefix: text(noncePrefix), associatedData },
    stopAfterParts,
  }
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, 'upload-child.ts'), JSON.stringify(input)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  const ended = once(child, 'close')
  let said = ''
  for await (const chunk of child.stdout) {
    said += chunk
    if (said.match(/hanging/g)?.length === parallelParts) child.kill('SIGKILL')
  }
  assert.deepEqual(await ended, [null, 'SIGKILL'], said)
}

async function expectWhole({ destination, key, tool, seal }: Staged): Promise<void> {
  const opener = createOpener(seal.dataKey, seal.associatedData, 'a')
  const pieces: Buffer[] = []
  for await (const chunk of await destination.get(key)) pieces.push(...opener.update(chunk))
  pieces.push(...opener.final())
  assert.ok(zstdDecompressSync(Buffer.concat(pieces)).equals(tool))
}

describe('an upload whose process was killed', () => {
  it('goes on, sends no more than the parts in flight again, and is whole', async () => {
    await staged(async it => {
      await killedInMidUpload(it, 4)
      await it.resume()
      await expectWhole(it)
      const again = it.sent.filter(number => number <= 4 + parallelParts)
      assert.ok(again.length <= parallelParts, `sent again: ${again}`)
      assert.ok(!it.sent.some(number => number <= 4), `sent again: ${it.sent}`)
    })
  })

  it('is killed twice and still goes on', async () => {
    await staged(async it => {
      await killedInMidUpload(it, 2)
      await killedInMidUpload(it, 6)
      await it.resume()
      await expectWhole(it)
    })
  })

  it('goes on after its last journal line was cut short', async () => {
    await staged(async it => {
      await killedInMidUpload(it, 4)
      const { size } = await stat(it.journalPath)
      await truncate(it.journalPath, size - 5)
      await it.resume()
      await expectWhole(it)
    })
  })
})

describe('a staged file that changed under the upload', () => {
  for (const [what, change] of Object.entries({
    'in its first byte': async (file: string) => {
      const bytes = await readFile(file)
      bytes[0] = bytes[0]! ^ 1
      await writeFile(file, bytes)
    },
    'in the middle of what was sent': async (file: string) => {
      const bytes = await readFile(file)
      bytes[5 * mebibyte] = bytes[5 * mebibyte]! ^ 1
      await writeFile(file, bytes)
    },
    'by losing its end': async (file: string) => await truncate(file, 3 * mebibyte),
  })) {
    it(`${what} is refused before a changed part is sent`, async () => {
      await staged(async it => {
        await killedInMidUpload(it, 4)
        const before = await recorded(it.journalPath)
        await change(it.file)
        await failing('staging.changed', it.resume())
        // Whatever was sent is what the journal said before the change, and nothing was added to it.
        assert.deepEqual(await recorded(it.journalPath), before)
        for (const part of (await it.destination.listParts(it.key, it.uploadId)) ?? []) {
          assert.equal(part.sha256, before.get(part.number)?.sha256)
        }
        assert.equal(await it.destination.stat(it.key), undefined)
      })
    })
  }

  it('is not mistaken for another nonce prefix: that too is refused', async () => {
    await staged(async it => {
      await killedInMidUpload(it, 4)
      await failing('staging.changed', it.resume({ ...it.seal, noncePrefix: randomBytes(7) }))
      assert.deepEqual(it.sent, [])
    })
  })
})

/** Ciphertext hashes by part, as the journal file has them. */
async function recorded(path: string): Promise<Map<number, { bytes: number; sha256: string }>> {
  const lines = (await readFile(path, 'utf8')).trim().split('\n')
  const parts = lines.map(line => JSON.parse(line)).filter(line => 'part' in line)
  return new Map(parts.map(({ part, bytes, sha256 }) => [part, { bytes, sha256 }]))
}

describe('the journal', () => {
  const part = { bytes: 5, sha256: 'a'.repeat(64) }

  it('is 0600, remembers, and drops a line that was cut', async () => {
    await staged(async ({ journalPath }) => {
      const journal = await openJournal(localFiles, journalPath)
      await Promise.all([1, 2, 3].map(number => journal.record(number, part)))
      await journal.sent(2, 'tag2')
      assert.equal((await stat(journalPath)).mode & 0o777, 0o600)
      await appendFile(journalPath, '{"part":4,"byt')
      const again = await openJournal(localFiles, journalPath)
      assert.deepEqual(again.known(2), { ...part, tag: 'tag2' })
      assert.equal(again.known(4), undefined)
      await again.record(4, part)
      assert.deepEqual((await openJournal(localFiles, journalPath)).known(4), part)
    })
  })

  it('that is damaged is not believed', async () => {
    await staged(async ({ journalPath }) => {
      await (await openJournal(localFiles, journalPath)).record(1, part)
      await appendFile(journalPath, '{"part":2,"byt\n')
      await failing('staging.changed', openJournal(localFiles, journalPath))
    })
  })

  it('has a part before the store sees it', async () => {
    await staged(async ({ destination, key, uploadId, seal, tool, journalPath }) => {
      const journal = await openJournal(localFiles, journalPath)
      const order: string[] = []
      const watching: PartJournal = {
        ...journal,
        record: async (number, bytes) => {
          await journal.record(number, bytes)
          order.push(`record ${number}`)
        },
      }
      const watched: Destination = {
        ...destination,
        putPart: async (k, u, sending, options) => {
          assert.ok(order.includes(`record ${sending.number}`))
          assert.equal((await recorded(journalPath)).get(sending.number)?.sha256, sending.sha256)
          return await destination.putPart(k, u, sending, options)
        },
      }
      const source = chunked(tool.subarray(0, 5 * mebibyte))
      await writeArtifact({
        destination: watched,
        key,
        uploadId,
        source,
        framing: 'raw',
        compression: wholeCompression({ level: 1 }),
        seal,
        journal: watching,
        partBytes,
      })
      assert.equal(order.length, 6)
    })
  })
})

describe('a store in trouble', () => {
  const write = (
    destination: Destination,
    it: Staged,
    more: { signal?: AbortSignal; patienceSeconds?: number } = {},
  ) =>
    writeArtifact({
      destination,
      key: it.key,
      uploadId: it.uploadId,
      source: createReadStream(it.file),
      framing: 'raw',
      compression: wholeCompression({ level: 1 }),
      seal: it.seal,
      partBytes,
      ...more,
    })

  it('is borne for a while: the part is sent again, the tool is not run again', async () => {
    await staged(async it => {
      const failed = new Set<number>()
      const troubled: Destination = {
        ...it.destination,
        putPart: async (k, u, part, options) => {
          if (part.number % 3 === 0 && !failed.has(part.number)) {
            failed.add(part.number)
            throw new HoldfastError('destination.throttled', 'slow down')
          }
          return await it.destination.putPart(k, u, part, options)
        },
      }
      const { parts } = await write(troubled, it)
      assert.ok(failed.size >= 4)
      await it.destination.completeUpload(it.key, it.uploadId, parts)
      await expectWhole(it)
    })
  })

  it('ends the writing at once when it does not pass by itself, and lets go of the source', async () => {
    await staged(async it => {
      const full: Destination = {
        ...it.destination,
        putPart: async () => {
          throw new HoldfastError('destination.full', 'no space left')
        },
      }
      await failing('destination.full', write(full, it))
    })
  })

  it('does not keep a source that says nothing more from being let go', async () => {
    await staged(async it => {
      const gone: Destination = {
        ...it.destination,
        putPart: async () => {
          throw new HoldfastError('destination.upload-gone', 'aborted')
        },
      }
      const silent = spawn('sh', ['-c', 'head -c 20000000 /dev/urandom; exec sleep 600'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const { key, uploadId, seal } = it
      const writing = writeArtifact({
        destination: gone,
        key,
        uploadId,
        source: silent.stdout,
        framing: 'raw',
        compression: wholeCompression({ level: 1 }),
        seal,
        partBytes,
      })
      await failing('destination.upload-gone', writing)
      assert.ok(silent.stdout.destroyed)
      silent.kill('SIGKILL')
      await once(silent, 'close')
    })
  })

  it('is left when the operation is cancelled', async () => {
    await staged(async it => {
      const control = new AbortController()
      const cancelled = new HoldfastError('operation.cancelled', 'cancelled by the test')
      const hanging: Destination = {
        ...it.destination,
        putPart: async (_key, _upload, _part, options) => {
          control.abort(cancelled)
          return await new Promise((_, reject) => {
            options?.signal?.throwIfAborted()
            options?.signal?.addEventListener('abort', () => reject(options.signal?.reason))
          })
        },
      }
      await failing('operation.cancelled', write(hanging, it, { signal: control.signal }))
    })
  })
})
