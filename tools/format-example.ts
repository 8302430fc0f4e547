/**
 * `node tools/format-example.ts`: makes the worked example of docs/formats/ anew, with the product's own code and new keys.
 * Needed only when a format changes; a test opens the committed one.
 */

import { randomBytes } from 'node:crypto'
import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pathToFileURL } from 'node:url'
import { wholeCompression } from '../model/compression.ts'
import { associatedDataFor, type Manifest } from '../model/manifest.ts'
import { backupPrefix, commitManifest, putKeySidecar } from '../storage/backups.ts'
import { claimOrCheck } from '../storage/installation.ts'
import { createInstallation, createKey, recipientOf } from '../storage/keys.ts'
import { openLocalDestination } from '../storage/local/index.ts'
import { createLockedKey } from '../storage/locked-keys.ts'
import { signManifest } from '../storage/manifest.ts'
import { wrapDataKey } from '../storage/wrap.ts'
import { writeArtifact } from '../storage/writer.ts'

const directory = join(import.meta.dirname, '../docs/formats/example')
const store = join(directory, 'store')
const dump = `PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE cheese (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO cheese VALUES(1,'Gruyère');
INSERT INTO cheese VALUES(2,'Påskeost 🧀');
COMMIT;
`

await rm(store, { recursive: true, force: true })
await rm(join(directory, 'keys'), { recursive: true, force: true })
await mkdir(store, { recursive: true })
const destination = openLocalDestination(pathToFileURL(store).href)
const installation = await createInstallation()
const { installationId, publicKey, signingKey } = installation
const key = await createKey(join(directory, 'keys'), 'example', { [installationId]: publicKey })
await rename(join(directory, 'keys', 'example.json'), join(directory, 'example-key.json'))
const passphrase = 'correct horse battery staple'
const locked = await createLockedKey(
  join(directory, 'keys'),
  'locked',
  { [installationId]: publicKey },
  passphrase,
)
await rename(join(directory, 'keys', 'locked.json'), join(directory, 'example-locked-key.json'))
await rm(join(directory, 'keys'), { recursive: true })
const writer = { installationId, instanceId: randomBytes(8).toString('hex'), publicKey }
const epoch = await claimOrCheck(destination, writer, null)

const backupId = '20261121T031400Z-full-9f3kq2'
const attemptId = '7Qm2vXbT4s'
const name = 'shop.sql'
const object = `${attemptId}/${name}.zst.tink`
const artifactKey = `${backupPrefix('shop', backupId)}${object}`
const associatedData = associatedDataFor(installationId, backupId, name)
const seal = { dataKey: randomBytes(32), salt: randomBytes(32), noncePrefix: randomBytes(7), associatedData }
const uploadId = await destination.openUpload(artifactKey)
const written = await writeArtifact({
  destination,
  key: artifactKey,
  uploadId,
  source: Readable.from([Buffer.from(dump)], { objectMode: false }),
  framing: 'raw',
  compression: wholeCompression({ level: 3 }),
  seal,
})
await destination.completeUpload(artifactKey, uploadId, written.parts)
const jwe = await wrapDataKey(seal.dataKey, [recipientOf(key), recipientOf(locked)])
await putKeySidecar(destination, 'shop', {
  format: 'holdfast-keys/1',
  backupId,
  attemptId,
  artifacts: [{ name, jwe }],
})
const manifest: Manifest = {
  format: 'holdfast-manifest/1',
  backupId,
  installationId,
  epoch,
  attemptId,
  connection: 'shop',
  engine: 'sqlite',
  method: 'logical',
  toolFormat: 'dump',
  type: 'full',
  consistency: 'snapshot',
  server: { identity: 'sqlite:example', version: '3.40.1', database: '/srv/shop.db' },
  facts: { encoding: 'UTF-8', pageSize: 4096 },
  tools: [{ name: 'sqlite3', version: '3.40.1' }],
  commands: ['sqlite3 -safe /srv/shop.db .dump'],
  artifacts: [
    {
      name,
      object,
      format: 'sqlite-dump',
      storedBytes: written.storedBytes,
      storedSha256: written.storedSha256,
      toolBytes: written.toolBytes,
      compressedBytes: written.compressedBytes,
      compression: {
        codec: 'zstd',
        level: 3,
        encoder: `node ${process.versions.zstd}`,
        frameBytes: written.frameBytes,
        frames: written.frames,
      },
      encryption: {
        scheme: 'tink-AES256_GCM_HKDF_1MB',
        keySidecar: `${attemptId}/keys-1.json`,
        associatedData,
      },
    },
  ],
  parent: null,
  startedAt: '2026-11-21T03:14:00Z',
  endedAt: '2026-11-21T03:14:01Z',
  labels: { why: 'worked example' },
}
await commitManifest(destination, await signManifest(manifest, signingKey))
await destination.close()
