/** The commit protocol against races, lost answers and zombies: always exactly one valid backup or none. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { HoldfastError } from '../../model/errors.ts'
import { canonical, type SignedManifest } from '../../model/manifest.ts'
import {
  abandon,
  backupPrefix,
  commitManifest,
  listBackups,
  loadBackup,
  purgeDeleted,
  putKeySidecar,
  readKeySidecars,
  removeOtherAttempts,
  settled,
} from '../../storage/backups.ts'
import { commitCopy } from '../../storage/copy.ts'
import type { Destination } from '../../storage/destination.ts'
import { createInstallation } from '../../storage/keys.ts'
import { signManifest, verifyManifest } from '../../storage/manifest.ts'
import { backupId, chunked, failing, inDestination, manifestOf, store } from './helpers.ts'

const prefix = backupPrefix('shop', backupId)
const manifestKey = `${prefix}manifest.json`
const deletedKey = `${prefix}deleted.json`
const installation = await createInstallation()
const { installationId, signingKey, publicKey } = installation
const trusted = { [installationId]: publicKey }
const why = { by: 'test', reason: 'given up' }

const keysOf = async (destination: Destination, below = ''): Promise<string[]> => {
  const keys: string[] = []
  for await (const { key } of destination.list(below)) keys.push(key)
  return keys
}

/** Writes an attempt's artifact and signs its manifest. */
async function attempt(destination: Destination, attemptId: string): Promise<SignedManifest> {
  const stored = await store(destination, 'a', chunked(randomBytes(500)), { attemptId })
  return await signManifest(manifestOf([stored.entry], { installationId }), signingKey)
}

/** Where conditional put is missing, or is told to lose its answer, or waits. */
const without = (destination: Destination): Destination => ({
  ...destination,
  capabilities: { ...destination.capabilities, conditionalPut: false },
  put: (key, body, { signal } = {}) => destination.put(key, body, signal ? { signal } : {}),
})

describe('a commit', () => {
  for (const conditional of [true, false]) {
    it(`makes a backup, once, ${conditional ? 'with' : 'without'} conditional put`, async () => {
      await inDestination(async real => {
        const destination = conditional ? real : without(real)
        const one = await attempt(destination, 'one')
        assert.equal((await settled(destination, 'shop', backupId)).state, 'absent')
        assert.deepEqual(await commitManifest(destination, one), one)
        const two = await attempt(destination, 'two')
        assert.deepEqual(await commitManifest(destination, two), one, 'the first stays')
        const { manifest } = await loadBackup(destination, 'shop', backupId, trusted)
        assert.equal(manifest.attemptId, 'one')
      })
    })
  }

  it('of two attempts at the same moment has one winner, and both learn who', async () => {
    await inDestination(async destination => {
      const candidates = await Promise.all(['one', 'two', 'three'].map(id => attempt(destination, id)))
      const winners = await Promise.all(candidates.map(signed => commitManifest(destination, signed)))
      const { manifest } = await loadBackup(destination, 'shop', backupId, trusted)
      for (const winner of winners) assert.equal(winner.attemptId, manifest.attemptId)
    })
  })

  it('whose answer was lost is settled by reading back', async () => {
    await inDestination(async destination => {
      const deaf: Destination = {
        ...destination,
        put: async (...args) => {
          await destination.put(...args)
          throw new HoldfastError('destination.unreachable', 'the connection was cut')
        },
      }
      const signed = await attempt(destination, 'one')
      assert.deepEqual(await commitManifest(deaf, signed), signed)
    })
  })

  it('that never arrived is an error that passes by itself', async () => {
    await inDestination(async destination => {
      const cut: Destination = {
        ...destination,
        put: async () => {
          throw new HoldfastError('destination.unreachable', 'the connection was cut')
        },
      }
      await failing('destination.unreachable', commitManifest(cut, await attempt(destination, 'one')))
      assert.equal((await settled(destination, 'shop', backupId)).state, 'absent')
    })
  })
})

describe('commit against abandon', () => {
  it('abandoned first: the commit is refused and puts nothing', async () => {
    await inDestination(async destination => {
      const signed = await attempt(destination, 'one')
      await abandon(destination, 'shop', backupId, why)
      await failing('backup.deleted', commitManifest(destination, signed))
      assert.deepEqual(await keysOf(destination), [deletedKey])
    })
  })

  it('committed first: the abandon deletes the backup', async () => {
    await inDestination(async destination => {
      await commitManifest(destination, await attempt(destination, 'one'))
      await abandon(destination, 'shop', backupId, why)
      assert.deepEqual(await keysOf(destination), [deletedKey])
      await failing('backup.deleted', loadBackup(destination, 'shop', backupId, trusted))
    })
  })

  it('a delayed commit that lands after the abandon changes nothing, and its writer learns it', async () => {
    await inDestination(async destination => {
      const signed = await attempt(destination, 'one')
      let sent = () => {}
      let arrive = () => {}
      const isSent = new Promise<void>(resolve => (sent = resolve))
      const arrives = new Promise<void>(resolve => (arrive = resolve))
      const delayed: Destination = {
        ...destination,
        put: async (...args) => {
          sent()
          await arrives
          return await destination.put(...args)
        },
      }
      const committing = commitManifest(delayed, signed)
      await isSent
      await abandon(destination, 'shop', backupId, why)
      arrive()
      await failing('backup.deleted', committing)
      assert.ok((await keysOf(destination)).includes(manifestKey), 'it did land')
      assert.equal((await settled(destination, 'shop', backupId)).state, 'deleted')
      await failing('backup.deleted', loadBackup(destination, 'shop', backupId, trusted))
      // The next sweep takes what landed late.
      await abandon(destination, 'shop', backupId, { by: 'sweep', reason: 'again' })
      assert.deepEqual(await keysOf(destination), [deletedKey])
      const state = await settled(destination, 'shop', backupId)
      assert.ok(state.state === 'deleted' && state.marker.by === 'test', 'the first reason stays')
    })
  })

  it('at the same moment, many times: the backup is there for all or for nobody', async () => {
    for (let round = 0; round < 15; round += 1) {
      await inDestination(async destination => {
        const signed = await attempt(destination, 'one')
        const [committed] = await Promise.allSettled([
          commitManifest(destination, signed),
          new Promise<void>(resolve => setTimeout(resolve, round / 4)).then(() =>
            abandon(destination, 'shop', backupId, why),
          ),
        ])
        assert.equal((await settled(destination, 'shop', backupId)).state, 'deleted')
        if (committed.status === 'rejected') assert.equal(committed.reason.code, 'backup.deleted')
        await abandon(destination, 'shop', backupId, why)
        assert.deepEqual(await keysOf(destination), [deletedKey])
      })
    }
  })
})

describe('giving up', () => {
  it('removes objects and open uploads of every attempt, of this backup only', async () => {
    await inDestination(async destination => {
      await attempt(destination, 'one')
      await putKeySidecar(destination, 'shop', sidecar('one'))
      const open = `${prefix}two/a.zst.tink`
      await destination.openUpload(open)
      const other = `${backupPrefix('shop', '20261121T031400Z-full-abcdefg')}x/a`
      await destination.put(other, Buffer.from('another backup'))
      const otherUpload = `${backupPrefix('shop', '20261121T031400Z-full-abcdefg')}x/b`
      await destination.openUpload(otherUpload)
      await abandon(destination, 'shop', backupId, why)
      assert.deepEqual((await keysOf(destination)).sort(), [deletedKey, other].sort())
      const uploads: string[] = []
      for await (const { key } of destination.listUploads('')) uploads.push(key)
      assert.deepEqual(uploads, [otherUpload])
    })
  })

  it('goes on past what cannot be removed, says so, and finishes the next time', async () => {
    await inDestination(async destination => {
      const signed = await attempt(destination, 'one')
      await putKeySidecar(destination, 'shop', sidecar('one'))
      const locked: Destination = {
        ...destination,
        remove: async (key, options) => {
          if (key.endsWith('.tink')) throw new HoldfastError('destination.denied', 'under a lock')
          await destination.remove(key, options)
        },
      }
      await failing('destination.denied', abandon(locked, 'shop', backupId, why))
      assert.deepEqual(
        await keysOf(destination),
        [`${prefix}${signed.artifacts[0]?.object}`, deletedKey].sort(),
      )
      await abandon(destination, 'shop', backupId, why)
      assert.deepEqual(await keysOf(destination), [deletedKey])
    })
  })

  for (const committed of [true, false]) {
    it(`makes room for its marker on a full destination (${committed ? 'committed' : 'unfinished'})`, async () => {
      await inDestination(async destination => {
        const signed = await attempt(destination, 'one')
        await destination.openUpload(`${prefix}two/a.zst.tink`)
        if (committed) await commitManifest(destination, signed)
        const order: string[] = []
        const full: Destination = {
          ...destination,
          put: async (key, body, options) => {
            order.push(`put ${key}`)
            for await (const { key: there } of destination.list(prefix))
              throw new HoldfastError('destination.full', `no room beside ${there}`)
            return await destination.put(key, body, options)
          },
          remove: async (key, options) => {
            order.push(`remove ${key}`)
            await destination.remove(key, options)
          },
        }
        await abandon(full, 'shop', backupId, why)
        assert.deepEqual(await keysOf(destination), [deletedKey])
        for await (const upload of destination.listUploads('')) assert.fail(`${upload.key} is still open`)
        assert.deepEqual(
          order.slice(0, 2),
          [`put ${deletedKey}`, `remove ${prefix}manifest.json`],
          'at no moment there is a manifest without its objects',
        )
      })
    })
  }

  it('other attempts leaves the committed one and the sidecars alone', async () => {
    await inDestination(async destination => {
      await attempt(destination, 'one')
      const kept = await attempt(destination, 'two')
      await destination.openUpload(`${prefix}three/a.zst.tink`)
      await putKeySidecar(destination, 'shop', sidecar('two'))
      await commitManifest(destination, kept)
      await destination.put(`${prefix}labels.json`, Buffer.from('{}'))
      await removeOtherAttempts(destination, 'shop', backupId, 'two')
      assert.deepEqual(
        await keysOf(destination),
        ['labels.json', 'manifest.json', 'two/a.zst.tink', 'two/keys-1.json']
          .map(name => prefix + name)
          .sort(),
      )
      for await (const upload of destination.listUploads('')) assert.fail(`${upload.key} is still open`)
    })
  })

  it('leaves its marker for thirty days, and until nothing lies beside it', async () => {
    await inDestination(async (destination, directory) => {
      await attempt(destination, 'one')
      await abandon(destination, 'shop', backupId, why)
      const day = 24 * 3600 * 1000
      const later = (days: number) => new Date(Date.now() + days * day)
      assert.deepEqual(await purgeDeleted(destination, later(29), false), [])
      await destination.put(`${prefix}one/late`, Buffer.from('a zombie was here'))
      assert.deepEqual(await purgeDeleted(destination, later(31), false), [])
      await destination.remove(`${prefix}one/late`)
      // The store's own time counts too: the younger of the two decides.
      await utimes(join(directory, deletedKey), later(5), later(5))
      assert.deepEqual(await purgeDeleted(destination, later(31), false), [])
      assert.deepEqual(await purgeDeleted(destination, later(36), true), [backupId])
      assert.deepEqual(await purgeDeleted(destination, later(36), false), [backupId])
      assert.deepEqual(await keysOf(destination), [])
    })
  })
})

const sidecar = (attemptId: string, mark = 'x') => ({
  format: 'holdfast-keys/1' as const,
  backupId,
  attemptId,
  artifacts: [{ name: 'a', jwe: { protected: mark } }],
})

describe('the commit of a copy', () => {
  it('is refused while one of its artifacts is not there, and puts nothing', async () => {
    await inDestination(from =>
      inDestination(async to => {
        const one = await attempt(from, 'one')
        await commitManifest(from, one)
        const object = `${prefix}${one.artifacts[0]?.object}`
        const refused = { code: 'destination.object-missing', message: /is gone again/ }
        await assert.rejects(commitCopy(from, to, 'shop', backupId), refused)
        const bytes = (await from.read(object)) ?? new Uint8Array()
        await to.put(object, bytes.subarray(1))
        await assert.rejects(commitCopy(from, to, 'shop', backupId), { code: refused.code })
        assert.deepEqual(await keysOf(to), [object])
        await to.put(object, bytes)
        await commitCopy(from, to, 'shop', backupId)
        assert.equal((await settled(to, 'shop', backupId)).state, 'committed')
      }),
    )
  })
})

describe('key sidecars', () => {
  it('are put once, added to by rotation, and read newest first', async () => {
    await inDestination(async destination => {
      assert.equal(await putKeySidecar(destination, 'shop', sidecar('one')), `${prefix}one/keys-1.json`)
      assert.equal(await putKeySidecar(destination, 'shop', sidecar('one')), `${prefix}one/keys-1.json`)
      assert.equal(await putKeySidecar(destination, 'shop', sidecar('one', 'y')), `${prefix}one/keys-2.json`)
      const read = await readKeySidecars(destination, 'shop', backupId, 'one')
      assert.deepEqual(read, [sidecar('one', 'y'), sidecar('one')])
    })
  })

  it('one that is damaged does not keep the others; nothing but damaged ones is said', async () => {
    await inDestination(async destination => {
      await putKeySidecar(destination, 'shop', sidecar('one'))
      await destination.put(`${prefix}one/keys-2.json`, Buffer.from('{"format": "holdf'))
      await putKeySidecar(destination, 'shop', sidecar('one', 'z'))
      const read = await readKeySidecars(destination, 'shop', backupId, 'one')
      assert.deepEqual(read, [sidecar('one', 'z'), sidecar('one')])
      await destination.put(`${prefix}two/keys-1.json`, Buffer.from('[]'))
      await failing('manifest.invalid', readKeySidecars(destination, 'shop', backupId, 'two'))
    })
  })
})

describe('manifests that are not to be trusted', () => {
  const put = (destination: Destination, document: unknown) =>
    destination.put(
      manifestKey,
      Buffer.from(typeof document === 'string' ? document : JSON.stringify(document)),
    )
  const load = (destination: Destination, keys: Record<string, Record<string, string>> = trusted) =>
    loadBackup(destination, 'shop', backupId, keys)

  it('missing, of nobody, of somebody else, changed, extended, moved', async () => {
    await inDestination(async destination => {
      await failing('backup.not-found', load(destination))
      const signed = await attempt(destination, 'one')
      await failing('manifest.missing', load(destination))
      await put(destination, signed)
      assert.equal((await load(destination)).manifest.backupId, backupId)
      await failing('manifest.forged', load(destination, {}))

      const stranger = await createInstallation()
      const bySomebody = await signManifest({ ...stripped(signed) }, stranger.signingKey)
      await put(destination, bySomebody)
      await failing('manifest.forged', load(destination))
      const asSomebody = await signManifest(
        { ...stripped(signed), installationId: stranger.installationId },
        stranger.signingKey,
      )
      await put(destination, asSomebody)
      await failing('manifest.forged', load(destination))

      const [header, , mark] = signed.signature.split('.')
      const none = Buffer.from('{"alg":"none"}').toString('base64url')
      const hmac = Buffer.from(
        JSON.stringify({ alg: 'HS256', kid: installationId, typ: 'holdfast-manifest' }),
      )
      const forgeries: Record<string, Partial<SignedManifest>> = {
        'other content': { server: { ...signed.server, database: '/other.db' } },
        'no signature': { signature: '' },
        'an empty mark': { signature: `${header}..` },
        'algorithm none': { signature: `${none}..${mark}` },
        'algorithm HS256': { signature: `${hmac.toString('base64url')}..${mark}` },
        'a payload of its own': { signature: `${header}.e30.${mark}` },
      }
      for (const [what, change] of Object.entries(forgeries)) {
        await put(destination, { ...signed, ...change })
        const error = await failing('manifest.forged', load(destination))
        assert.ok(error.message.includes(backupId), what)
      }
      for (const broken of ['', '{', '[]', 'null', { ...signed, extra: 1 }, { ...signed, epoch: 1.5 }]) {
        await put(destination, broken)
        await failing('manifest.invalid', load(destination))
      }

      const elsewhere = await signManifest({ ...stripped(signed), connection: 'crm' }, signingKey)
      await put(destination, elsewhere)
      await failing('manifest.invalid', load(destination))
    })
  })

  it('an installation id cannot name a member of every object', async () => {
    const signed = await signManifest(manifestOf([entry], { installationId: 'constructor' }), signingKey)
    await failing('manifest.forged', verifyManifest(signed, trusted))
  })

  it('artifacts outside of the attempt, or of one name, are refused though signed', async () => {
    for (const artifacts of [
      [{ ...entry, object: 'other/a.zst' }],
      [{ ...entry, object: 'one/../../x' }],
      [entry, { ...entry, object: 'one/b.zst' }],
    ]) {
      const signed = await signManifest(
        manifestOf(artifacts, { installationId, attemptId: 'one' }),
        signingKey,
      )
      await failing('manifest.invalid', verifyManifest(signed, trusted))
    }
  })

  it('the signed bytes do not depend on the order of members', async () => {
    const signed = await signManifest(manifestOf([entry], { installationId, attemptId: 'one' }), signingKey)
    const turned = Object.fromEntries(Object.entries(JSON.parse(JSON.stringify(signed))).reverse())
    assert.notEqual(JSON.stringify(turned), JSON.stringify(signed))
    assert.equal(canonical(turned), canonical(signed))
    await verifyManifest(turned, trusted)
  })
})

const stripped = ({ signature: _, ...manifest }: SignedManifest) => manifest
const entry = {
  name: 'a',
  object: 'one/a.zst',
  format: 'test',
  storedBytes: 1,
  storedSha256: '0'.repeat(64),
  toolBytes: 1,
  compressedBytes: 1,
  compression: { codec: 'zstd' as const, level: 3, encoder: 'x', frameBytes: 1, frames: 1 },
  encryption: null,
}

describe('the list of backups', () => {
  it('tells committed, deleted and unfinished ones apart and sees no other objects', async () => {
    await inDestination(async destination => {
      const signed = await attempt(destination, 'one')
      await commitManifest(destination, signed)
      await destination.put('crm/backups/20261121T031400Z-full-bbbbbb/x/a', Buffer.from('a'))
      await destination.put('crm/backups/20261121T031400Z-full-cccccc/manifest.json', Buffer.from('not json'))
      await abandon(destination, 'crm', '20261121T031400Z-full-aaaaaa', why)
      await destination.put('crm/logs/somewhere/backups/x', Buffer.from('a log'))
      await destination.put('installation.json', Buffer.from('{}'))
      const listed = []
      for await (const backup of listBackups(destination)) listed.push(backup)
      assert.deepEqual(listed, [
        { connection: 'crm', backupId: '20261121T031400Z-full-aaaaaa', state: 'deleted' },
        { connection: 'crm', backupId: '20261121T031400Z-full-bbbbbb', state: 'unfinished' },
        {
          connection: 'crm',
          backupId: '20261121T031400Z-full-cccccc',
          state: 'committed',
          signed: undefined,
        },
        { connection: 'shop', backupId, state: 'committed', signed: JSON.parse(JSON.stringify(signed)) },
      ])
    })
  })
})
