/** The byte path and the commit protocol on real object stores. */

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import { localFiles } from '../../hosts/files.ts'
import { wholeCompression } from '../../model/compression.ts'
import { abandon, backupPrefix, commitManifest, listBackups, settled } from '../../storage/backups.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { claimOrCheck, takeover } from '../../storage/installation.ts'
import { openJournal } from '../../storage/journal.ts'
import { createInstallation } from '../../storage/keys.ts'
import { signManifest } from '../../storage/manifest.ts'
import { createOpener } from '../../storage/tink.ts'
import { writeArtifact } from '../../storage/writer.ts'
import { startAzurite } from '../servers/azurite.ts'
import { startGcs } from '../servers/gcs.ts'
import { startVersitygw } from '../servers/versitygw.ts'
import {
  backupId,
  chunked,
  collect,
  failing,
  manifestOf,
  mebibyte,
  open,
  secretsFor,
  store,
} from './helpers.ts'

const directory = await mkdtemp(join(tmpdir(), 'holdfast-stores-'))
const servers = { S3: await startVersitygw(), GCS: await startGcs(), Azure: await startAzurite() }
after(async () => {
  for (const server of Object.values(servers)) await server.stop()
  await rm(directory, { recursive: true, force: true })
})

for (const [name, server] of Object.entries(servers)) {
  describe(`on ${name}`, () => {
    async function inStore(prefix: string, act: (destination: Destination) => Promise<void>): Promise<void> {
      const destination = await openDestination(server.destinationRecord(prefix), server.secrets)
      try {
        await act(destination)
      } finally {
        await destination.close()
      }
    }

    it('an artifact of several parts comes back, sealed and plain', async () => {
      await inStore('round', async destination => {
        const tool = randomBytes(17 * mebibyte)
        for (const plain of [false, true]) {
          const stored = await store(destination, 'a', chunked(tool), { plain })
          // Of 8 MiB, and where they are sent one after the other of 16.
          assert.equal(stored.written.parts.length, destination.capabilities.sequentialParts ? 2 : 3)
          assert.ok(zstdDecompressSync(await open(destination, stored)).equals(tool))
        }
      })
    })

    for (const listing of ['hashes', 'tags only']) {
      it(`an upload goes on where it stopped when the store lists ${listing}`, async () => {
        await inStore(`resume-${listing.length}`, async destination => {
          const tool = randomBytes(21 * mebibyte)
          const [key, seal] = ['shop/backups/b/attempt/a.zst.tink', secretsFor('test')]
          const { sequentialParts } = destination.capabilities
          const uploadId = await destination.openUpload(key)
          const journalPath = join(directory, `${name} ${listing}.parts`)
          const stop = new AbortController()
          const sent: number[] = []
          const write = async (over: Destination, signal?: AbortSignal) => {
            const existing = (await over.listParts(key, uploadId)) ?? []
            const withoutHash = existing.map(({ number, bytes, tag }) => ({ number, bytes, tag }))
            return await writeArtifact({
              destination: over,
              key,
              uploadId,
              source: chunked(tool),
              framing: 'raw',
              compression: wholeCompression({ level: 1 }),
              seal,
              journal: await openJournal(localFiles, journalPath),
              existingParts: listing === 'hashes' ? existing : withoutHash,
              partBytes: 5 * mebibyte,
              parallelParts: 2,
              ...(signal && { signal }),
            })
          }
          const dying: Destination = {
            ...destination,
            putPart: async (...args) => {
              const info = await destination.putPart(...args)
              if (info.number === (sequentialParts ? 3 : 4)) stop.abort(new Error('the process dies here'))
              if (info.number > 2) await new Promise(() => {})
              return info
            },
          }
          // Hangs like a dead process: the journal knows of parts 1 and 2 that they are there.
          const dead = write(dying, stop.signal)
          dead.catch(() => {})
          while (!stop.signal.aborted) await new Promise(resolve => setTimeout(resolve, 10))
          const watching: Destination = {
            ...destination,
            putPart: (...args) => {
              sent.push(args[2].number)
              return destination.putPart(...args)
            },
          }
          const { parts, storedBytes, sentBytes } = await write(watching)
          assert.ok(storedBytes - sentBytes >= 2 * 5 * mebibyte, `${sentBytes} of ${storedBytes} were sent`)
          // This server wants the hashes back at the end, whether or not it told them.
          const listed = sequentialParts ? parts : await destination.listParts(key, uploadId)
          assert.deepEqual(
            parts.map(({ number, tag }) => ({ number, tag })),
            listed?.map(({ number, tag }) => ({ number, tag })),
          )
          const { bytes } = await destination.completeUpload(key, uploadId, listed ?? [])
          assert.equal(bytes, storedBytes)
          if (!sequentialParts) assert.ok(!sent.includes(1) && !sent.includes(2), `sent again: ${sent}`)
          const opener = createOpener(seal.dataKey, 'test', 'a')
          const opened = opener.update(await collect(await destination.get(key)))
          assert.ok(zstdDecompressSync(Buffer.concat([...opened, ...opener.final()])).equals(tool))
        })
      })
    }

    it('racing commits have one winner, and giving up ends the backup', async () => {
      await inStore('commit', async destination => {
        const { installationId, signingKey } = await createInstallation()
        const candidates = await Promise.all(
          ['one', 'two', 'three'].map(async attemptId => {
            const { entry } = await store(destination, 'a', chunked(randomBytes(500)), { attemptId })
            return await signManifest(manifestOf([entry], { installationId }), signingKey)
          }),
        )
        const winners = await Promise.all(candidates.map(signed => commitManifest(destination, signed)))
        const state = await settled(destination, 'shop', backupId)
        assert.ok(state.state === 'committed')
        for (const winner of winners) assert.deepEqual(winner, state.signed)
        await destination.openUpload(`${backupPrefix('shop', backupId)}four/a.zst`)
        await abandon(destination, 'shop', backupId, { by: 'test', reason: 'test' })
        await failing('backup.deleted', commitManifest(destination, candidates[0]!))
        const keys: string[] = []
        for await (const { key } of destination.list('')) keys.push(key)
        assert.deepEqual(keys, [`${backupPrefix('shop', backupId)}deleted.json`])
        for await (const { key } of destination.listUploads('')) assert.fail(`${key} is still open`)
        for await (const backup of listBackups(destination)) assert.equal(backup.state, 'deleted')
      })
    })

    it('one of many holds the prefix', async () => {
      await inStore('epochs', async destination => {
        const writer = (instanceId: string) => ({
          installationId: 'i',
          instanceId,
          publicKey: { kty: 'OKP' },
        })
        const ids = ['a', 'b', 'c', 'd']
        const claims = await Promise.allSettled(ids.map(id => claimOrCheck(destination, writer(id), null)))
        const holder = claims.findIndex(claim => claim.status === 'fulfilled')
        assert.equal(claims.filter(claim => claim.status === 'fulfilled').length, 1)
        assert.equal(await takeover(destination, writer('e'), 'test'), 2)
        await failing('destination.read-only', claimOrCheck(destination, writer(ids[holder] ?? ''), 1))
      })
    })
  })
}
