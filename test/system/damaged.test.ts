/**
 * What lies in a destination may be cut, changed, exchanged or forged. Verify says so and remembers it; a restore ends
 * failed with the right code, and neither its target nor anything temporary is there afterwards.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { Manifest } from '../../model/manifest.ts'
import type { BackupView, OperationView } from '../../model/views.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { digestPostgres, digestSqlite } from '../support/digest.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectCleanHost } from './inspect.ts'
import { directory, type Stack, startStack } from './stack.ts'

const mebibyte = 1 << 20

interface Made {
  connection: string
  id: string
  /** Its folder in the destination. */
  folder: string
  artifact: string
  keys: string
}

const flipped = (at: (bytes: Buffer) => number) => (bytes: Buffer) => {
  const changed = Buffer.from(bytes)
  const index = at(bytes)
  changed[index] = (changed[index] ?? 0) ^ 0x10
  return changed
}
const changes: { what: string; change: (bytes: Buffer) => Buffer; code: string }[] = [
  {
    what: 'cut between two segments',
    change: bytes => bytes.subarray(0, 2 * mebibyte),
    code: 'artifact.truncated',
  },
  { what: 'without its last byte', change: bytes => bytes.subarray(0, -1), code: 'artifact.truncated' },
  { what: 'empty', change: () => Buffer.alloc(0), code: 'artifact.truncated' },
  {
    what: 'with a bit flipped in the middle',
    change: flipped(bytes => bytes.length >> 1),
    code: 'artifact.corrupted',
  },
  {
    what: 'with a bit flipped at its end',
    change: flipped(bytes => bytes.length - 1),
    code: 'artifact.corrupted',
  },
  {
    what: 'with two segments exchanged',
    change: bytes =>
      Buffer.concat([
        bytes.subarray(0, mebibyte),
        bytes.subarray(2 * mebibyte, 3 * mebibyte),
        bytes.subarray(mebibyte, 2 * mebibyte),
        bytes.subarray(3 * mebibyte),
      ]),
    code: 'artifact.corrupted',
  },
  {
    what: 'with bytes after its end',
    change: bytes => Buffer.concat([bytes, bytes.subarray(0, 100)]),
    code: 'artifact.corrupted',
  },
]

describe('damaged', () => {
  let stack: Stack
  let postgres: TestPostgres
  let disk = ''
  let source = ''
  let targets = ''
  const made: Record<string, Made> = {}

  before(async () => {
    stack = await startStack()
    postgres = await startPostgres()
    disk = await directory(stack, 'disk')
    targets = await directory(stack, 'targets')
    source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 5)
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 5)
    await addConnections()
    for (const [connection, format] of [
      ['file', 'copy'],
      ['text', 'dump'],
      ['pg', 'custom'],
      ['pg', 'directory'],
    ] as const) {
      made[format] = await backup({ connection, format })
      made[`${format}, plain`] = await backup({ connection, format, encryptTo: [] })
    }
    made.again = await backup({ connection: 'file', format: 'copy' })
  })

  after(async () => {
    await stack?.stop()
    await postgres?.stop()
  })

  const addConnections = async () => {
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: disk })
    for (const [name, url, method] of [
      ['file', `sqlite:${source}`, 'physical'],
      ['text', `sqlite:${source}`, 'logical'],
      ['pg', postgres.url('shop'), 'logical'],
    ]) {
      await stack.expectOk('POST', '/v1/connections', { name, url, method })
    }
  }

  const backup = async (request: Record<string, unknown> & { connection: string }): Promise<Made> => {
    const view = await stack.ended((await stack.backup({ ...request, destinations: ['disk'] })).id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    const folder = join(disk, request.connection, 'backups', view.backup)
    const manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as Manifest
    const artifact = join(folder, manifest.artifacts[0]?.object ?? '')
    const keys = join(folder, manifest.attemptId, 'keys-1.json')
    return { connection: request.connection, id: view.backup, folder, artifact, keys }
  }
  const the = (name: string): Made => {
    const found = made[name]
    assert.ok(found, name)
    return found
  }

  const restored = async ({ id, connection }: Made): Promise<OperationView & { target: string }> => {
    const name = `back-${randomBytes(4).toString('hex')}`
    const target = connection === 'pg' ? name : join(targets, `${name}.db`)
    const operation = await stack.restore({ backup: id, target: { connection, database: target } })
    return { ...(await stack.ended(operation.id)), target }
  }
  const expectRefused = async (one: Made, code: string): Promise<void> => {
    const view = await restored(one)
    assert.equal(view.state, 'failed', JSON.stringify(view.error))
    assert.equal(view.error?.code, code, JSON.stringify(view.error))
    assert.deepEqual(view.warnings, [])
    expectCleanHost(stack.home, view.id)
    assert.deepEqual(await readdir(targets), [])
    const names = (await postgres.sql('SELECT datname FROM pg_database')).split('\n').sort()
    assert.deepEqual(names, ['postgres', 'shop', 'template0', 'template1'])
  }
  const verified = async ({ id }: Made, level: string): Promise<OperationView> => {
    const { operation } = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      `/v1/backups/${id}/verify`,
      { level },
    )
    return await stack.ended(operation.id)
  }
  const remembered = async ({ id }: Made) =>
    (await stack.expectOk<BackupView>('GET', `/v1/backups/${id}`)).verified
  /** Verify says it, and whoever lists backups sees it. */
  const expectFound = async (one: Made, code: string, level = 'checksum'): Promise<void> => {
    const view = await verified(one, level)
    assert.equal(view.state, 'failed', JSON.stringify(view.error))
    assert.equal(view.error?.code, code, JSON.stringify(view.error))
    const verdict = await remembered(one)
    assert.equal(verdict?.ok, false, JSON.stringify(verdict))
    assert.equal(verdict.level, level)
    assert.equal(verdict.detail, view.error.detail)
  }
  /** Neither waits for the other: verify takes no lock. */
  const expectDamaged = (one: Made, code: string) =>
    Promise.all([expectRefused(one, code), expectFound(one, code)])
  const expectWhole = async (one: Made): Promise<void> => {
    const view = await verified(one, 'checksum')
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    assert.equal((await remembered(one))?.ok, true)
  }
  /** The file is changed for as long as `act` takes. */
  const withChanged = async (path: string, change: (bytes: Buffer) => Buffer, act: () => Promise<void>) => {
    const bytes = await readFile(path)
    await writeFile(path, change(bytes))
    await act()
    await writeFile(path, bytes)
  }
  const withoutFile = async (path: string, act: () => Promise<void>) => {
    await rename(path, `${disk}-${basename(path)}`)
    await act()
    await rename(`${disk}-${basename(path)}`, path)
  }

  for (const format of ['copy', 'dump', 'custom', 'directory']) {
    for (const kind of [format, `${format}, plain`]) {
      test(`${kind}: the artifact is changed`, async t => {
        const one = the(kind)
        for (const { what, change, code } of changes) {
          await t.test(what, () =>
            withChanged(one.artifact, change, async () => {
              await expectDamaged(one, code)
            }),
          )
        }
        await expectWhole(one)
      })
    }

    test(`${format}: the artifact is missing`, async () => {
      const one = the(format)
      await withoutFile(one.artifact, async () => {
        await expectDamaged(one, 'destination.object-missing')
        await expectFound(one, 'destination.object-missing', 'exists')
      })
    })
  }

  test('an artifact that changed its length is found without reading it', async () => {
    const one = the('copy')
    await withChanged(
      one.artifact,
      bytes => bytes.subarray(1),
      () => expectFound(one, 'artifact.truncated', 'exists'),
    )
  })

  test('the artifacts of two backups exchanged', async () => {
    const [one, other] = [the('copy'), the('again')]
    const [mine, theirs] = [await readFile(one.artifact), await readFile(other.artifact)]
    // Of one file and one length, so that only their bytes tell them apart.
    assert.equal(mine.length, theirs.length)
    await writeFile(one.artifact, theirs)
    await writeFile(other.artifact, mine)
    for (const each of [one, other]) {
      await expectDamaged(each, 'artifact.corrupted')
    }
    await writeFile(one.artifact, mine)
    await writeFile(other.artifact, theirs)
    await expectWhole(one)
  })

  for (const format of ['copy', 'custom']) {
    test(`${format}: the manifest is forged`, async () => {
      const one = the(format)
      const edited = (edit: (manifest: Manifest) => void) => (bytes: Buffer) => {
        const manifest = JSON.parse(bytes.toString()) as Manifest
        edit(manifest)
        return Buffer.from(JSON.stringify(manifest))
      }
      const forgeries = [
        edited(manifest => Object.assign(manifest.labels, { keep: 'forever' })),
        edited(manifest => Object.assign(manifest, { endedAt: '2000-01-01T00:00:00.000Z' })),
        edited(manifest => Object.assign(manifest.artifacts[0] ?? {}, { encryption: null })),
        edited(manifest =>
          Object.assign(manifest, { installationId: 'a'.repeat(manifest.installationId.length) }),
        ),
      ]
      for (const forge of forgeries) {
        await withChanged(join(one.folder, 'manifest.json'), forge, async () => {
          await expectDamaged(one, 'manifest.forged')
        })
      }
    })

    test(`${format}: the manifest is cut, missing, or another backup's`, async () => {
      const one = the(format)
      const path = join(one.folder, 'manifest.json')
      await withChanged(
        path,
        bytes => bytes.subarray(0, 300),
        async () => {
          await expectDamaged(one, 'manifest.invalid')
        },
      )
      const other = await readFile(
        join(the(format === 'copy' ? 'again' : 'directory').folder, 'manifest.json'),
      )
      await withChanged(
        path,
        () => other,
        async () => {
          await expectDamaged(one, 'manifest.invalid')
        },
      )
      await withoutFile(path, async () => {
        await expectDamaged(one, 'manifest.missing')
      })
      await expectWhole(one)
    })
  }

  test('the wrapped keys are missing or damaged', async () => {
    const one = the('copy')
    await withoutFile(one.keys, async () => {
      await expectRefused(one, 'key.missing')
      // Bytes are compared without any key.
      await expectWhole(one)
    })
    await withChanged(
      one.keys,
      bytes => Buffer.from(bytes.toString().replaceAll('"tag":"', '"tag":"AAAA')),
      () => expectRefused(one, 'artifact.corrupted'),
    )
  })

  for (const format of ['custom', 'directory']) {
    test(`${format}: a dump that is cut in the middle of COPY is no backup`, async () => {
      const operation = await stack.backup({ connection: 'pg', destinations: ['disk'], format })
      // In the server, every millisecond: the table is on its way for longer than that.
      await postgres.sql(`DO $$ BEGIN
        LOOP
          PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = 'holdfast' AND query LIKE 'COPY public.blobs%';
          EXIT WHEN FOUND;
          PERFORM pg_sleep(0.001), pg_stat_clear_snapshot();
        END LOOP;
      END $$`)
      const view = await stack.parked(operation.id)
      assert.equal(view.error?.code, 'database.unreachable', JSON.stringify(view))
      assert.ok((await stack.backups('pg')).every(one => one.id !== view.backup))
      await stack.expectOk('POST', `/v1/operations/${view.id}/cancel`)
      assert.equal((await stack.ended(view.id)).state, 'cancelled')
      expectCleanHost(stack.home, view.id)
      assert.ok((await stack.backups('pg')).every(one => one.id !== view.backup))
      const left = await readdir(join(disk, 'pg', 'backups', view.backup)).catch(() => [])
      assert.deepEqual(
        left.filter(name => name !== 'deleted.json'),
        [],
      )
      assert.deepEqual(await readdir(join(disk, '.holdfast-uploads')), [])
    })
  }

  test('key file and catalog are lost: nothing opens the backup until the key file is back', async () => {
    await stack.expectOk('POST', '/v1/keys', { name: 'vault-only' })
    const keys = join(stack.home, 'keys')
    const names = (await readdir(keys)).filter(name => name.startsWith('vault-only'))
    assert.ok(names.length > 0)
    const one = {
      copy: await backup({ connection: 'file', format: 'copy', encryptTo: ['vault-only'] }),
      custom: await backup({ connection: 'pg', format: 'custom', encryptTo: ['vault-only'] }),
    }
    const safe = await directory(stack, 'safe')
    for (const name of names) {
      await copyFile(join(keys, name), join(safe, name))
      await rm(join(keys, name))
    }
    await stack.api.kill9()
    for (const name of await readdir(stack.home)) {
      if (name.startsWith('catalog.')) await rm(join(stack.home, name))
    }
    await stack.restartApi()
    await addConnections()
    const rebuilt = await stack.expectOk<{ found: number; refused: unknown[] }>(
      'POST',
      '/v1/catalog/rebuild',
      {},
    )
    // The other key file says whom to trust.
    assert.deepEqual(rebuilt.refused, [])
    for (const each of Object.values(one)) {
      await expectRefused(each, 'key.missing')
      await expectWhole(each)
    }
    await mkdir(keys, { recursive: true })
    for (const name of names) await copyFile(join(safe, name), join(keys, name))
    const file = await restored(one.copy)
    assert.equal(file.state, 'succeeded', JSON.stringify(file.error))
    assert.deepEqual(digestSqlite(file.target), digestSqlite(source))
    const database = await restored(one.custom)
    assert.equal(database.state, 'succeeded', JSON.stringify(database.error))
    assert.deepEqual(
      await digestPostgres(postgres.url(database.target)),
      await digestPostgres(postgres.url('shop')),
    )
  })
})
