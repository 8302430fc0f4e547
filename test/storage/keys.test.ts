/** Keys: made, imported, loaded, wrapped for and opened with; and found nowhere but in their file. */
import assert from 'node:assert/strict'
import { createPrivateKey, generateKeyPairSync, randomBytes } from 'node:crypto'
import { readdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { exportJWK } from 'jose'
import { localFiles } from '../../hosts/files.ts'
import { commitManifest, loadBackup, putKeySidecar } from '../../storage/backups.ts'
import { claimOrCheck } from '../../storage/installation.ts'
import { openJournal } from '../../storage/journal.ts'
import {
  createInstallation,
  createKey,
  importPublicKey,
  type Jwk,
  loadKeyFile,
  loadKeyring,
  recipientOf,
  trustInstallation,
} from '../../storage/keys.ts'
import { createLockedKey, openLockedKey } from '../../storage/locked-keys.ts'
import { signManifest } from '../../storage/manifest.ts'
import { unwrapDataKey, wrapDataKey } from '../../storage/wrap.ts'
import { backupId, chunked, failing, inDestination, manifestOf, store } from './helpers.ts'

const installation = await createInstallation()
const { installationId, publicKey, signingKey } = installation
const trusted = { [installationId]: publicKey }

const pem = (type: 'ec' | 'rsa' | 'x25519' | 'ed25519', detail?: string | number) => {
  if (type === 'ec') return generateKeyPairSync('ec', { namedCurve: String(detail) })
  if (type === 'rsa') return generateKeyPairSync('rsa', { modulusLength: Number(detail) })
  return type === 'x25519' ? generateKeyPairSync('x25519') : generateKeyPairSync('ed25519')
}

describe('key files', () => {
  it('are 0600, never written over, and load as they were made', async () => {
    await inDestination(async (_, directory) => {
      const keys = join(directory, 'keys')
      const made = await createKey(keys, 'vault', trusted)
      assert.equal((await stat(join(keys, 'vault.json'))).mode & 0o777, 0o600)
      assert.deepEqual(await loadKeyFile(join(keys, 'vault.json')), made)
      await failing('request.exists', createKey(keys, 'vault', {}))
      const { publicKey: pub } = pem('ec', 'P-256')
      await failing(
        'request.exists',
        importPublicKey(keys, 'vault', pub.export({ type: 'spki', format: 'pem' }) as string),
      )
      const races = await Promise.allSettled(['x', 'x', 'x'].map(name => createKey(keys, name, {})))
      assert.equal(races.filter(race => race.status === 'fulfilled').length, 1)
      for (const name of ['', '../x', 'A', 'a.b', '-a', 'a/b']) {
        await failing('request.invalid', createKey(keys, name, {}))
      }
      assert.deepEqual((await readdir(keys)).sort(), ['vault.json', 'x.json'])
    })
  })

  it('learn installations to trust', async () => {
    await inDestination(async (_, directory) => {
      await createKey(directory, 'vault', {})
      await trustInstallation(directory, 'vault', installationId, publicKey)
      assert.deepEqual((await loadKeyFile(join(directory, 'vault.json'))).installations, trusted)
      assert.equal((await stat(join(directory, 'vault.json'))).mode & 0o777, 0o600)
    })
  })

  it('go by the name of their file, so that two that were made with one name can lie together', async () => {
    await inDestination(async (_, directory) => {
      await createKey(join(directory, 'here'), 'default', {})
      await createKey(join(directory, 'there'), 'default', {})
      await rename(join(directory, 'there', 'default.json'), join(directory, 'here', 'brought.json'))
      const ring = await loadKeyring(join(directory, 'here'))
      assert.deepEqual(
        ring.keys.map(key => key.name),
        ['brought', 'default'],
      )
      await trustInstallation(join(directory, 'here'), 'brought', installationId, publicKey)
      const [brought, own] = (await loadKeyring(join(directory, 'here'))).keys
      assert.deepEqual([brought?.installations, own?.installations], [trusted, {}])
      await rename(join(directory, 'here', 'brought.json'), join(directory, 'here', 'Brought here.json'))
      await failing('key.invalid', loadKeyring(join(directory, 'here')))
    })
  })

  it('that are damaged or not key files are refused by name, without showing what is in them', async () => {
    await inDestination(async (_, directory) => {
      const key = await createKey(directory, 'vault', {})
      const secret = key.privateKey.d ?? ''
      const other = await createKey(directory, 'other', {})
      const bad: Record<string, string> = {
        'no JSON': `{"privateKey":{"d":"${secret}"`,
        'unknown member': JSON.stringify({ ...key, extra: secret }),
        'another kid': JSON.stringify({ ...key, kid: other.kid }),
        'no private part': JSON.stringify({ ...key, privateKey: { ...key.privateKey, d: undefined } }),
        'another kind': JSON.stringify({ ...key, privateKey: installation.signingKey }),
      }
      for (const [what, text] of Object.entries(bad)) {
        await writeFile(join(directory, 'vault.json'), text)
        const error = await failing('key.invalid', loadKeyring(directory))
        assert.match(error.message, /vault\.json/, what)
        assert.ok(!error.message.includes(secret))
      }
      await failing('key.missing', loadKeyFile(join(directory, 'nothing.json')))
      assert.deepEqual(await loadKeyring(join(directory, 'no-such-directory')), {
        keys: [],
        locked: [],
        kms: [],
        recipients: [],
      })
    })
  })
})

describe('key files that a passphrase locks', () => {
  const passphrase = 'Ge\u0308heime Wo\u0308rter'

  it('encrypt without it, open with it alone, however it is typed', async () => {
    await inDestination(async (_, directory) => {
      const key = await createLockedKey(directory, 'vault', trusted, passphrase)
      const file = join(directory, 'vault.json')
      assert.equal((await stat(file)).mode & 0o777, 0o600)
      assert.deepEqual(await loadKeyring(directory), { keys: [], locked: [key], kms: [], recipients: [] })
      await failing('key.invalid', loadKeyFile(file))
      await failing('request.exists', createLockedKey(directory, 'vault', {}, passphrase))
      const dataKey = randomBytes(32)
      const jwe = await wrapDataKey(dataKey, [recipientOf(key)])
      const opened = await openLockedKey(key, passphrase.normalize('NFC'))
      assert.ok(dataKey.equals(await unwrapDataKey(jwe, [opened])))
      const text = await readFile(file, 'utf8')
      for (const secret of [passphrase, opened.privateKey.d ?? '']) assert.ok(!text.includes(secret))
      const wrong = await failing('key.passphrase-wrong', openLockedKey(key, `${passphrase} `))
      assert.ok(!wrong.message.includes(passphrase))
    })
  })

  it('that were changed open with no passphrase', async () => {
    await inDestination(async (_, directory) => {
      const key = await createLockedKey(directory, 'vault', {}, passphrase)
      const other = await createLockedKey(directory, 'other', {}, passphrase)
      for (const changed of [
        { ...key, lock: { ...key.lock, salt: other.lock.salt } },
        { ...key, lock: { ...key.lock, passes: key.lock.passes - 1 } },
        { ...key, lockedKey: other.lockedKey },
        { ...key, lockedKey: other.lockedKey, lock: other.lock },
      ]) {
        await failing('key.passphrase-wrong', openLockedKey(changed, passphrase))
      }
      await writeFile(join(directory, 'vault.json'), JSON.stringify({ ...key, publicKey: other.publicKey }))
      await failing('key.invalid', loadKeyring(directory))
      // Not even asked for so much memory that the machine has none left.
      const greedy = { ...key, lock: { ...key.lock, memoryKiB: 1 << 30 } }
      await writeFile(join(directory, 'vault.json'), JSON.stringify(greedy))
      await failing('key.invalid', loadKeyring(directory))
    })
  })

  it('learn installations to trust', async () => {
    await inDestination(async (_, directory) => {
      const key = await createLockedKey(directory, 'vault', {}, passphrase)
      assert.deepEqual(await trustInstallation(directory, 'vault', installationId, publicKey), {
        ...key,
        installations: trusted,
      })
    })
  })
})

describe('public keys', () => {
  for (const [kind, pair] of [
    ['EC P-256', pem('ec', 'P-256')],
    ['EC P-384', pem('ec', 'P-384')],
    ['X25519', pem('x25519')],
    ['RSA 2048', pem('rsa', 2048)],
  ] as const) {
    it(`${kind}, as PEM and as JWK, wraps what its private key opens`, async () => {
      await inDestination(async (_, directory) => {
        const fromPem = await importPublicKey(
          directory,
          'from-pem',
          pair.publicKey.export({ type: 'spki', format: 'pem' }) as string,
        )
        const jwk = JSON.stringify(await exportJWK(pair.publicKey))
        const fromJwk = await importPublicKey(directory, 'from-jwk', jwk)
        assert.equal(fromPem.kid, fromJwk.kid)
        const ring = await loadKeyring(directory)
        assert.deepEqual(ring.recipients, [fromJwk, fromPem])
        assert.deepEqual(ring.keys, [])
        const dataKey = randomBytes(32)
        const wrapped = await wrapDataKey(dataKey, ring.recipients)
        const privateKey = pair.privateKey.export({ format: 'jwk' }) as Jwk
        const opened = await unwrapDataKey(wrapped, [{ name: 'escrow', kid: fromPem.kid, privateKey }])
        assert.ok(dataKey.equals(opened))
      })
    })
  }

  it('that cannot be encrypted for, are too short, or are private, are refused', async () => {
    await inDestination(async (_, directory) => {
      const spki = (pair: ReturnType<typeof pem>) =>
        pair.publicKey.export({ type: 'spki', format: 'pem' }) as string
      const pair = pem('ec', 'P-256')
      const privatePem = createPrivateKey(pair.privateKey.export({ type: 'pkcs8', format: 'pem' }))
      for (const text of [
        spki(pem('rsa', 1024)),
        spki(pem('ed25519')),
        spki(pem('ec', 'secp256k1')),
        privatePem.export({ type: 'pkcs8', format: 'pem' }) as string,
        JSON.stringify(await exportJWK(pair.privateKey)),
        'ssh-ed25519 AAAA',
        '{}',
        'null',
        '',
      ]) {
        await failing('key.invalid', importPublicKey(directory, 'x', text))
      }
      assert.deepEqual(await readdir(directory), [])
    })
  })
})

describe('a wrapped data key', () => {
  it('opens with each key it was wrapped for, and says for whom it was when none is here', async () => {
    await inDestination(async (_, directory) => {
      const [one, two, three] = [
        await createKey(directory, 'one', {}),
        await createKey(directory, 'two', {}),
        await createKey(directory, 'three', {}),
      ]
      const dataKey = randomBytes(32)
      for (const recipients of [[one], [one, two]]) {
        const jwe = await wrapDataKey(dataKey, recipients.map(recipientOf))
        for (const key of recipients) assert.ok(dataKey.equals(await unwrapDataKey(jwe, [three, key])))
        const error = await failing('key.missing', unwrapDataKey(jwe, [three]))
        for (const { name, kid } of recipients) assert.ok(error.message.includes(`"${name}" (${kid})`))
      }
    })
  })

  it('that was changed does not open', async () => {
    await inDestination(async (_, directory) => {
      const key = await createKey(directory, 'one', {})
      const jwe = await wrapDataKey(randomBytes(32), [recipientOf(key)])
      const changed = { ...jwe, ciphertext: randomBytes(32).toString('base64url') }
      await failing('artifact.corrupted', unwrapDataKey(changed, [key]))
      await failing('key.missing', unwrapDataKey({ ...jwe, recipients: 'none' }, [key]))
      await failing('key.missing', unwrapDataKey({}, [key]))
    })
  })
})

describe('secrets', () => {
  it('of a backup and its keys are in no file but the key file', async () => {
    await inDestination(async (destination, directory) => {
      const keys = join(directory, 'keys')
      const key = await createKey(keys, 'vault', trusted)
      const pair = pem('ec', 'P-256')
      await importPublicKey(keys, 'escrow', pair.publicKey.export({ type: 'spki', format: 'pem' }) as string)
      const writer = { installationId, instanceId: 'instance', publicKey }
      const epoch = await claimOrCheck(destination, writer, null)
      const stored = await store(destination, 'a', chunked(randomBytes(100_000)))
      await (await openJournal(localFiles, join(directory, 'staging/a.parts'))).record(1, {
        bytes: 1,
        sha256: '0'.repeat(64),
      })
      const recipients = [
        ...(await loadKeyring(keys)).recipients,
        recipientOf(key),
        recipientOf(installation.wrapping),
      ]
      const jwe = await wrapDataKey(stored.secrets!.dataKey, recipients)
      await putKeySidecar(destination, 'shop', {
        format: 'holdfast-keys/1',
        backupId,
        attemptId: 'attempt1',
        artifacts: [{ name: 'a', jwe }],
      })
      const manifest = manifestOf([stored.entry], { installationId, epoch })
      await commitManifest(destination, await signManifest(manifest, signingKey))
      await loadBackup(destination, 'shop', backupId, trusted)

      const secrets = [
        key.privateKey.d,
        signingKey.d,
        installation.wrapping.privateKey.d,
        pair.privateKey.export({ format: 'jwk' }).d,
      ].map(d => Buffer.from(d ?? '', 'base64url'))
      secrets.push(Buffer.from(stored.secrets!.dataKey))
      const forms = secrets.flatMap(secret => [
        secret,
        ...(['base64url', 'base64', 'hex'] as const).map(form => Buffer.from(secret.toString(form))),
      ])
      const files = (await readdir(directory, { recursive: true, withFileTypes: true })).filter(file =>
        file.isFile(),
      )
      assert.ok(files.length >= 8)
      for (const file of files) {
        const bytes = await readFile(join(file.parentPath, file.name))
        const found = forms.filter(form => bytes.includes(form)).length
        assert.equal(found, file.name === 'vault.json' ? 1 : 0, join(file.parentPath, file.name))
      }
    })
  })
})
