/** When two looks at a key saw the same file; and that nothing stands in for a signature. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HoldfastError } from '../../model/errors.ts'
import {
  type ForeignFile,
  isForeignId,
  isSameFile,
  manifestOfForeign,
  unsignedWords,
} from '../../model/foreign.ts'
import { backupIdFor } from '../../model/ids.ts'
import { artifactKey } from '../../storage/backups.ts'
import { verifyManifest } from '../../storage/manifest.ts'

const file: ForeignFile = {
  key: 'old/shop.dump.gz',
  bytes: 10,
  modifiedAt: '2026-11-21T03:14:00.000Z',
  tag: '"0x8D"',
  sha256: 'a'.repeat(64),
  contentBytes: null,
  engine: 'postgresql',
  format: 'pgdump-custom',
  wrapping: 'gzip',
  facts: {},
}
const id = backupIdFor(new Date(file.modifiedAt), 'foreign', Buffer.from('random'))

test('the tag says whether it is the same, and the time where there is none', () => {
  assert.ok(isSameFile(file, { ...file, tag: '0x8D', modifiedAt: 'later' }))
  assert.ok(!isSameFile(file, { ...file, tag: '"0x8E"' }))
  assert.ok(!isSameFile(file, { ...file, bytes: 11 }))
  assert.ok(isSameFile({ ...file, tag: null }, file))
  assert.ok(!isSameFile({ ...file, tag: null }, { ...file, modifiedAt: 'later' }))
})

test('its object is its own file, and ours is below its folder', () => {
  const [entry] = manifestOfForeign(id, file).artifacts
  assert.ok(entry)
  assert.ok(isForeignId(id))
  assert.equal(artifactKey('', id, entry), 'old/shop.dump.gz')
  const own = '20261121T031400Z-full-9f3kq2'
  assert.ok(!isForeignId(own))
  assert.equal(artifactKey('shop', own, { object: 'A/x' }), `shop/backups/${own}/A/x`)
})

test('it passes nowhere for a manifest that somebody signed, and says so itself', async () => {
  const manifest = manifestOfForeign(id, file)
  const refused = (error: unknown) => error instanceof HoldfastError && error.code === 'manifest.invalid'
  await assert.rejects(verifyManifest(manifest, {}), refused)
  await assert.rejects(verifyManifest({ ...manifest, signature: 'a..b' }, {}), refused)
  assert.match(unsignedWords(manifest) ?? '', new RegExp(`Nobody signed.*${file.sha256}`))
  assert.equal(unsignedWords({ ...manifest, backupId: '20261121T031400Z-full-9f3kq2' }), null)
})
