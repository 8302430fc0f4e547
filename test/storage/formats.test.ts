/** The published formats: current schemas, the worked example, and other people's implementations both ways. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { commitManifest, loadBackup, putKeySidecar } from '../../storage/backups.ts'
import { createInstallation, createKey, loadKeyFile, recipientOf } from '../../storage/keys.ts'
import { signManifest } from '../../storage/manifest.ts'
import { createOpener } from '../../storage/tink.ts'
import { wrapDataKey } from '../../storage/wrap.ts'
import { publishedSchemas } from '../../tools/formats.ts'
import { pythonWithTink, run } from '../servers/python.ts'
import {
  backupId,
  chunked,
  failing,
  inDestination,
  manifestOf,
  mebibyte,
  pzstd,
  sha256,
  store,
  toolBytes,
} from './helpers.ts'

const formats = join(import.meta.dirname, '../../docs/formats')
const example = join(formats, 'example')
const exampleBackup = join(example, 'store/shop/backups/20261121T031400Z-full-9f3kq2')
const python = await pythonWithTink()

const read = async (path: string): Promise<unknown> => JSON.parse(await readFile(path, 'utf8'))

describe('the JSON Schemas', () => {
  it('are those of the code that checks the documents (else: npm run formats)', async () => {
    for (const [file, schema] of Object.entries(publishedSchemas())) {
      assert.deepEqual(await read(join(formats, file)), JSON.parse(JSON.stringify(schema)), file)
    }
    const published = (await readdir(formats)).filter(file => file.endsWith('.schema.json'))
    assert.deepEqual(published.sort(), Object.keys(publishedSchemas()).sort())
  })

  it('say of the worked example that it is valid, and refuse unknown fields', async () => {
    const documents = {
      'manifest.schema.json': join(exampleBackup, 'manifest.json'),
      'keys.schema.json': join(exampleBackup, '7Qm2vXbT4s/keys-1.json'),
      'installation.schema.json': join(example, 'store/installation.json'),
      'epoch.schema.json': join(example, 'store/epoch-1.json'),
      'key-file.schema.json': join(example, 'example-key.json'),
      'locked-key-file.schema.json': join(example, 'example-locked-key.json'),
    }
    for (const [file, path] of Object.entries(documents)) {
      // zod's date-time is its own pattern; ajv needs no format for it.
      const validate = new Ajv2020({ validateFormats: false }).compile(publishedSchemas()[file]!)
      const document = (await read(path)) as object
      assert.ok(validate(document), `${path}: ${JSON.stringify(validate.errors)}`)
      assert.ok(!validate({ ...document, unknown: 1 }), file)
    }
  })
})

describe('the worked example', () => {
  it('is opened by the published Python program', async () => {
    const text = await run(python, [
      join(example, 'example.py'),
      exampleBackup,
      join(example, 'example-key.json'),
    ])
    assert.match(text.toString('utf8'), /^PRAGMA foreign_keys=OFF;[\s\S]*Påskeost 🧀[\s\S]*COMMIT;\n$/)
  })

  it('is opened with the locked key file and its passphrase, and with no other', async () => {
    const args = [join(example, 'example.py'), exampleBackup, join(example, 'example-locked-key.json')]
    const text = await run(python, args, Buffer.from('correct horse battery staple\n'))
    assert.match(text.toString('utf8'), /^PRAGMA foreign_keys=OFF;[\s\S]*COMMIT;\n$/)
    await assert.rejects(run(python, args, Buffer.from('Correct horse battery staple\n')))
  })

  it('is not opened when its manifest was changed', async () => {
    await inDestination(async (_, directory) => {
      const manifest = await readFile(join(exampleBackup, 'manifest.json'), 'utf8')
      await writeFile(join(directory, 'manifest.json'), manifest.replace('worked', 'forged'))
      const args = [join(example, 'example.py'), directory, join(example, 'example-key.json')]
      await assert.rejects(run(python, args), /InvalidJWSSignature/)
    })
  })
})

describe('other implementations', () => {
  it('open what we write: segments, parts, pzstd frames, an encrypted and a plain artifact', async () => {
    await inDestination(async (destination, directory) => {
      const { installationId, publicKey, signingKey, wrapping } = await createInstallation()
      const key = await createKey(join(directory, '.keys'), 'vault', { [installationId]: publicKey })
      const bytes = toolBytes(7 * mebibyte + 123)
      const sealed = await store(destination, 'a', pzstd(bytes, 1), { framing: 'pzstd', partBytes: mebibyte })
      const plain = await store(destination, 'b', chunked(bytes), { plain: true })
      assert.ok(sealed.written.storedBytes > 3 * mebibyte)
      const before = await createKey(join(directory, '.keys'), 'before', { [installationId]: publicKey })
      for (const recipients of [[recipientOf(before)], [recipientOf(wrapping), recipientOf(key)]]) {
        const jwe = await wrapDataKey(sealed.secrets!.dataKey, recipients)
        await putKeySidecar(destination, 'shop', {
          format: 'holdfast-keys/1',
          backupId,
          attemptId: 'attempt1',
          artifacts: [{ name: 'a', jwe }],
        })
      }
      const others = await Promise.all(
        (['lz4', 'gzip', 'none', 'auto'] as const).map(method =>
          store(destination, method, chunked(Buffer.from(bytes)), { plain: true, compression: { method } }),
        ),
      )
      const long = await store(
        destination,
        'long',
        chunked(await run('zstd', ['-q', '--long=28', '-c'], bytes)),
        {
          plain: true,
          framing: 'zstd',
          compression: { longWindow: 28 },
        },
      )
      const entries = [sealed, plain, long, ...others].map(({ entry }) => entry)
      const manifest = manifestOf(entries, { installationId })
      await commitManifest(destination, await signManifest(manifest, signingKey))
      const folder = join(directory, 'shop/backups', backupId)
      // Before the rotation and after it.
      for (const [name, by] of [
        ['a', 'vault'],
        ['b', 'vault'],
        ['a', 'before'],
        ...[long, ...others].map(({ entry }) => [entry.name, 'vault'] as const),
      ] as const) {
        const args = [join(example, 'example.py'), folder, join(directory, `.keys/${by}.json`), name]
        assert.equal(sha256(await run(python, args)), sha256(bytes))
      }
      // A plain artifact is nothing but zstd.
      const stored = await readFile(join(directory, plain.key))
      assert.equal(sha256(await run('zstd', ['-d', '-q', '-c'], stored)), sha256(bytes))
    })
  })

  it("Google's Tink seals, we open; around segment boundaries too", async () => {
    const first = mebibyte - 40 - 16
    for (const bytes of [0, 1, first, first + 1, first + mebibyte - 16, 3 * mebibyte]) {
      const dataKey = randomBytes(32)
      const plain = randomBytes(bytes)
      const associatedData = 'holdfast/1\ninstallation\nbackup\nnäme'
      const sealed = await run(
        python,
        [join(import.meta.dirname, 'seal.py'), dataKey.toString('hex'), associatedData],
        plain,
      )
      const opener = createOpener(dataKey, associatedData, 'test')
      const opened = Buffer.concat([...opener.update(sealed), ...opener.final()])
      assert.ok(opened.equals(plain), `${bytes} bytes`)
      const other = createOpener(dataKey, `${associatedData}.`, 'test')
      await failing('artifact.corrupted', (async () => [other.update(sealed), other.final()])())
    }
  })

  it('the key file of the example is one of ours, and so is its backup', async () => {
    const key = await loadKeyFile(join(example, 'example-key.json'))
    const { openLocalDestination } = await import('../../storage/local/index.ts')
    const { pathToFileURL } = await import('node:url')
    const destination = openLocalDestination(pathToFileURL(join(example, 'store')).href)
    const id = '20261121T031400Z-full-9f3kq2'
    const { manifest, keys } = await loadBackup(destination, 'shop', id, key.installations)
    assert.equal(manifest.labels.why, 'worked example')
    assert.equal(keys.length, 1)
    await destination.close()
  })
})
