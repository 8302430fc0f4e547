/** One key takes another's place: while workers die, the store is away, and objects may not be changed. Then the old one goes. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import type { AuditView } from '../../model/access.ts'
import { keySidecarSchema } from '../../model/manifest.ts'
import type { KeyView, OperationView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import { wrappedFor } from '../../storage/wrap.ts'
import { holdfast } from '../cli/run.ts'
import type { Interceptor } from '../servers/interceptor.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeRandomSqlite } from './databases.ts'
import { directory, eventually, type Process, type Stack, startStack } from './stack.ts'
import { startVault } from './vault.ts'

const prefix = 'rotation'

describe('rotation of keys', () => {
  let stack: Stack
  let store: Versitygw
  let front: Interceptor
  let vault: Destination
  let disk: string
  let source: string
  let worker: Process

  before(async () => {
    stack = await startStack()
    assert.ok(stack.worker)
    worker = stack.worker
    disk = await directory(stack, 'backups')
    ;({ store, front, destination: vault } = await startVault(stack, prefix))
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: disk })
    source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 1)
    await stack.expectOk('POST', '/v1/connections', { name: 'lite', url: `sqlite:${source}` })
  })
  after(async () => {
    await stack?.stop()
    await front?.close()
    await vault?.close()
    await store?.stop()
  })

  const backup = async (destination: string, more: Record<string, unknown> = {}) => {
    const { id } = await stack.backup({ connection: 'lite', destinations: [destination], ...more })
    const made = await stack.ended(id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    return made.backup
  }
  const rotate = async (from: string, to: string) =>
    (await stack.expectOk<{ operation: OperationView }>('POST', `/v1/keys/${from}/rotate`, { to })).operation
      .id
  const rotated = async (from: string, to: string) => {
    const view = await stack.ended(await rotate(from, to))
    assert.equal(view.state, 'succeeded', JSON.stringify([view.error, view.warnings]))
    return view
  }
  const keys = async () => (await stack.expectOk<{ items: KeyView[] }>('GET', '/v1/keys')).items
  const key = async (name: string) => {
    const found = (await keys()).find(one => one.name === name)
    assert.ok(found, name)
    return found
  }
  const restored = async (id: string, name: string) => {
    const database = join(stack.directory, name)
    const view = await stack.ended(
      (await stack.restore({ backup: id, target: { connection: 'lite', database } })).id,
    )
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    assert.deepEqual(digestSqlite(database), digestSqlite(source))
  }
  /** Objects of a backup on the disk by name, without the sidecars that rotations add. */
  const untouched = async (id: string) => {
    const folder = join(disk, 'lite', 'backups', id)
    const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter(one =>
      one.isFile(),
    )
    const kept = files.map(one => join(one.parentPath, one.name)).filter(path => !/keys-[2-9]/.test(path))
    return await Promise.all(kept.sort().map(async path => [path, (await readFile(path)).toString('base64')]))
  }
  const sidecars = async (connection: string, id: string) => {
    const found = []
    for await (const { key: object } of vault.list(`${connection}/backups/${id}/`)) {
      if (!/\/keys-\d+\.json$/.test(object)) continue
      const body = await vault.read(object)
      found.push(keySidecarSchema.parse(JSON.parse(Buffer.from(body ?? []).toString('utf8'))))
    }
    return found
  }

  test('adds a sidecar to each backup and changes nothing else; then the old key may go, and the new one opens everything', async () => {
    await stack.expectOk('POST', '/v1/keys', { name: 'second' })
    const only = { encryptTo: ['default'] }
    const [onDisk, inVault] = [await backup('disk', only), await backup('vault', only)]
    const plain = await backup('disk', { encryptTo: [] })
    const before = await untouched(onDisk)
    assert.deepEqual((await key('default')).opens, [
      { destination: 'disk', backups: 1, alone: 1 },
      { destination: 'vault', backups: 1, alone: 1 },
    ])
    const refused = await stack.refused('POST', '/v1/keys/default/retire', {})
    assert.deepEqual([refused.status, refused.body.code], [409, 'key.needed'])
    assert.match(refused.body.detail, new RegExp(`only it opens backup ${onDisk} of lite in disk`))

    const view = await rotated('default', 'second')
    assert.deepEqual(
      view.phases.map(({ phase, summary }) => [phase, summary]),
      [
        ['plan', 'new backups are for second; 2 destinations to go over'],
        ['rotate', 'disk: 1 of 1 backups open with second'],
        ['rotate', 'vault: 1 of 1 backups open with second'],
        ['finish', 'nothing is left under default'],
      ],
    )
    assert.deepEqual(await untouched(onDisk), before)
    assert.equal((await sidecars('lite', inVault)).length, 2)
    assert.equal((await key('default')).replacedBy, 'second')
    assert.deepEqual((await key('second')).opens, [
      { destination: 'disk', backups: 1, alone: 0 },
      { destination: 'vault', backups: 1, alone: 0 },
    ])

    // Asked again there is nothing to do; whoever still names the old key means the new one.
    await rotated('default', 'second')
    assert.equal((await sidecars('lite', inVault)).length, 2)
    for (const asked of [{}, only]) {
      const made = await backup('vault', asked)
      const { kid } = await key('second')
      const [sidecar] = await sidecars('lite', made)
      assert.deepEqual(
        sidecar?.artifacts.flatMap(({ jwe }) => wrappedFor(jwe)),
        [kid],
      )
    }

    const retired = await holdfast(['keys', 'retire', 'default'], { env: cli() })
    assert.equal(retired.code, 0, retired.stderr)
    assert.deepEqual(
      (await keys()).map(({ name }) => name),
      ['second'],
    )
    const [away] = await readdir(join(stack.home, 'keys', 'retired'))
    assert.match(away ?? '', /^default-.{8}\.json$/)
    await restored(onDisk, 'from-disk.db')
    await restored(inVault, 'from-vault.db')
    await restored(plain, 'plain.db')
    await restored(await backup('disk', only), 'named-by-the-old-key.db')
    const out = join(stack.directory, 'recovered.db')
    const own = ['--key', join(stack.home, 'keys', 'second.json')]
    const recovered = await holdfast(['recover', disk, ...own, '--backup', onDisk, '--out', out])
    assert.equal(recovered.code, 0, recovered.stderr)
    assert.deepEqual(digestSqlite(out), digestSqlite(source))

    const last = await holdfast(['keys', 'retire', 'second'], { env: cli() })
    assert.equal(last.code, 3, last.stderr)
    assert.match(last.stderr, /error key\.needed: .*it is the only key here/)

    // And there is a way back.
    const back = await holdfast(['keys', 'retire', 'default', '--undo'], { env: cli() })
    assert.equal(back.code, 0, back.stderr)
    assert.ok(existsSync(join(stack.home, 'keys', 'default.json')))
    const listed = await holdfast(['keys', 'list'], { env: cli() })
    assert.match(listed.stdout, /default \(now second\)/)
  })

  test('goes on where a killed worker stopped, waits for a store that is away, and is one at a time', async () => {
    await stack.expectOk('POST', '/v1/keys', { name: 'third' })
    const made: string[] = []
    for (let n = 0; n < 4; n += 1) made.push(await backup('vault'))
    const puts = () => front.seen.filter(line => /^PUT .*keys-2\.json/.test(line)).length
    const isSidecar = (method: string, url: string) => method === 'PUT' && url.includes('/keys-2.json')

    // The first sidecar is in the store, and nobody knows.
    const lost = front.hold('after', isSidecar)
    const before = puts()
    const id = await rotate('second', 'third')
    await lost.reached
    const second = await stack.refused('POST', '/v1/keys/second/rotate', { to: 'default' })
    assert.deepEqual([second.status, second.body.code], [409, 'operation.conflict'])
    assert.match(second.body.detail, new RegExp(`rotation of keys: ${id}`))
    assert.equal((await stack.refused('POST', '/v1/keys/second/retire', {})).body.code, 'key.needed')
    const next = front.hold('before', isSidecar)
    await worker.kill9()
    lost.cut()
    worker = stack.startWorker()
    await next.reached
    const connection = await Connection.connect({ address: stack.temporal.address })
    try {
      const handle = new Client({ connection }).workflow.getHandle('keys/rotate')
      const state = await handle.query<{ title: string; phases: { phase: string }[] }>('state')
      assert.equal(state.title, 'rotate key second → third')
      const { typedSearchAttributes } = await handle.describe()
      assert.match(JSON.stringify(typedSearchAttributes), new RegExp(`HoldfastOperation.*${id}`))
    } finally {
      await connection.close()
    }
    await eventually('its progress is told', async () =>
      /^\d of \d+ backups/.test((await stack.operation(id)).progress?.note ?? '') ? true : undefined,
    )
    await store.kill()
    next.cut()
    await eventually('it was tried in vain', async () =>
      /try \d/.test((await stack.operation(id)).progress?.note ?? '') ? true : undefined,
    )
    const { root, port, secrets: credentials } = store
    store = await startVersitygw({ root, port, credentials })
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify([view.error, view.warnings]))
    const { kid } = await key('third')
    for (const one of made) {
      const all = await sidecars('lite', one)
      assert.ok(all.length <= 2, `${all.length} sidecars`)
      assert.ok(all.some(sidecar => sidecar.artifacts.every(({ jwe }) => wrappedFor(jwe).includes(kid))))
    }
    // Eight backups were there to be given one; of two the put was seen twice.
    assert.ok(puts() - before <= 10, `${puts() - before} puts`)
    await stack.expectOk('POST', '/v1/keys/second/retire', {})
    await restored(made[0] ?? '', 'after-the-storm.db')
    const { items } = await stack.expectOk<{ items: AuditView[] }>('GET', '/v1/audit?limit=50')
    for (const action of ['POST /v1/keys/{name}/rotate', 'POST /v1/keys/{name}/retire']) {
      assert.ok(
        items.some(row => row.action === action && row.outcome === 'done'),
        action,
      )
    }
  })

  test('says what is left and why; the rest is done', async () => {
    await stack.expectOk('POST', '/v1/keys', { name: 'fourth' })
    const only = { encryptTo: ['third'] }
    const good = await backup('disk', only)
    const damaged = await backup('disk', only)
    const manifest = join(disk, 'lite', 'backups', damaged, 'manifest.json')
    await writeFile(manifest, (await readFile(manifest, 'utf8')).replace('"full"', '"none"'))
    await rename(disk, `${disk}-away`)
    const away = await stack.ended(await rotate('third', 'fourth'))
    assert.deepEqual([away.state, away.error?.code], ['partial', 'key.rotation-incomplete'])
    assert.match(away.warnings.join('\n'), /disk: all of it: destination\./)
    assert.match(
      away.phases.map(({ summary }) => summary).join('\n'),
      /vault: (\d+) of \1 backups open with fourth/,
    )
    await rename(`${disk}-away`, disk)

    const again = await holdfast(['keys', 'rotate', 'third', '--to', 'fourth'], { env: cli() })
    assert.equal(again.code, 9, again.stdout)
    assert.match(again.stdout, new RegExp(`disk: lite/${damaged}: manifest.forged`))
    await restored(good, 'the-good-one.db')
    const refused = await stack.refused('POST', '/v1/keys/third/retire', {})
    assert.equal(refused.body.code, 'key.needed')
    assert.match(refused.body.detail, new RegExp(`: only it opens backup ${damaged} of lite in disk\\.$`))
    await rm(join(disk, 'lite', 'backups', damaged), { recursive: true })
    await stack.expectOk('POST', '/v1/keys/third/retire', {})
  })

  test('what a locked key opens is rotated while it is open; a public key takes its place only knowingly', async () => {
    const passphrase = 'correct horse battery staple'
    await stack.expectOk('POST', '/v1/keys', { name: 'shut', passphrase })
    const made = await backup('disk', { encryptTo: ['shut'] })
    const refused = await stack.refused('POST', '/v1/keys/shut/rotate', { to: 'fourth' })
    assert.equal(refused.body.code, 'key.locked')
    await stack.expectOk('POST', '/v1/keys/shut/unlock', { passphrase })
    await rotated('shut', 'fourth')
    await stack.expectOk('POST', '/v1/keys/shut/retire', {})
    await restored(made, 'was-locked.db')

    const { generateKeyPairSync } = await import('node:crypto')
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const pem = publicKey.export({ type: 'spki', format: 'pem' })
    await stack.expectOk('POST', '/v1/keys', { name: 'escrow', publicKey: pem })
    await rotated('fourth', 'escrow')
    assert.equal((await stack.refused('POST', '/v1/keys/fourth/retire', {})).body.code, 'key.needed')
    await stack.expectOk('POST', '/v1/keys/default/retire', {})
    await stack.expectOk('POST', '/v1/keys/fourth/retire', { openedElsewhere: true })
  })

  test('a destination says for whom backups there are, a request may say otherwise, and its key takes over, too', async () => {
    await stack.expectOk('POST', '/v1/keys', { name: 'offsite' })
    const refused = await stack.refused('PATCH', '/v1/destinations/vault', { encryptTo: ['nobody'] })
    assert.equal(refused.body.errors?.[0]?.path, 'encryptTo.0')
    const changed = await holdfast(['destination', 'change', 'vault', '--encrypt-to', 'offsite'], {
      env: cli(),
    })
    assert.equal(changed.code, 0, changed.stderr)
    const recipients = async (more: Record<string, unknown> = {}) => {
      const [sidecar] = await sidecars('lite', await backup('vault', more))
      const kids = new Set(sidecar?.artifacts.flatMap(({ jwe }) => wrappedFor(jwe)))
      return (await keys()).filter(({ kid }) => kids.has(kid)).map(({ name }) => name)
    }
    assert.deepEqual(await recipients(), ['offsite'])
    assert.deepEqual(await recipients({ encryptTo: ['escrow'] }), ['escrow'])
    await stack.expectOk('POST', '/v1/keys', { name: 'offsite-next' })
    const needed = await stack.refused('POST', '/v1/keys/offsite/retire', {})
    assert.match(needed.body.detail, /backups to vault are encrypted for it/)
    await rotated('offsite', 'offsite-next')
    assert.deepEqual(await recipients(), ['offsite-next'])
    await stack.expectOk('PATCH', '/v1/destinations/vault', { encryptTo: null })
    assert.deepEqual(await recipients(), ['escrow', 'offsite-next'])
  })

  const cli = () => ({ HOLDFAST_URL: stack.apiUrl, HOLDFAST_TOKEN: stack.token, HOLDFAST_HOME: stack.home })
})
