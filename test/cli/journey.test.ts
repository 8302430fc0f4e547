/** The commands against a real Holdfast, one after the other as a person would, then recovery without any of it. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { calculateJwkThumbprint } from 'jose'
import { readRuntime } from '../../cli/context.ts'
import { sqliteDigest } from '../../demo/sqlite.ts'
import { eventually, holdfast, start } from './run.ts'

function makeNotes(path: string): void {
  const db = new DatabaseSync(path)
  db.exec(`
    CREATE TABLE "no tes" (id INTEGER PRIMARY KEY, text TEXT, data BLOB);
    WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
    INSERT INTO "no tes" SELECT i, CASE i % 3 WHEN 0 THEN NULL ELSE 'nöte ' || i END, randomblob(40) FROM n;`)
  db.close()
}

describe('a journey with the command line', () => {
  let folder = ''
  let home = ''
  let up: ReturnType<typeof start> | undefined
  let backupId = ''
  let backupUri = ''
  const cli = (...args: string[]) => holdfast(args, { cwd: folder, env: { HOLDFAST_HOME: home } })
  const json = async (...args: string[]) => {
    const { code, stdout, stderr } = await cli(...args, '--json')
    assert.equal(code, 0, `${args.join(' ')}: ${stderr}`)
    return JSON.parse(stdout)
  }

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast journey '))
    home = join(folder, 'home')
    makeNotes(join(folder, 'notes.sqlite'))
    up = start(['up', '--json'], { env: { HOLDFAST_HOME: home, HOLDFAST_API_LISTEN: '127.0.0.1:0' } })
    let text = ''
    up.child.stdout?.on('data', chunk => {
      text += chunk
    })
    await eventually('up is up', () => (text.includes('\n') ? true : undefined))
  })
  after(async () => {
    up?.child.kill('SIGINT')
    await up?.ended
    await rm(folder, { recursive: true, force: true })
  })

  test('connections', async () => {
    assert.deepEqual(await json('connection', 'list'), [])
    assert.equal((await json('connection', 'add', 'notes', 'notes.sqlite')).engine, 'sqlite')
    const again = await cli('connection', 'add', 'notes', 'notes.sqlite')
    assert.equal(again.code, 5)
    assert.match(again.stderr, /^error request\.exists/)
    const missing = await cli('connection', 'add', 'none', './none.sqlite')
    assert.equal(missing.code, 4)
    assert.match(missing.stderr, /^error database\.missing/)
    assert.equal((await cli('connection', 'show', 'nobody')).code, 4)
    assert.match((await cli('connection', 'list')).stdout, /NAME +ENGINE.*\nnotes +sqlite/)
    assert.match((await cli('connection', 'show', 'notes')).stdout, /engine +sqlite/)
    const checked = await cli('connection', 'check', 'notes')
    assert.equal(checked.code, 0, checked.stdout)
    assert.match(checked.stdout, /^pass/m)
    const named = await cli('connection', 'add', 'Bad_Name', 'notes.sqlite')
    assert.equal(named.code, 2)
    assert.match(named.stderr, /name/)
  })

  test('destinations', async () => {
    const absent = await cli('destination', 'add', 'second', './second')
    assert.equal(absent.code, 1)
    assert.match(absent.stderr, /^error destination\.missing/)
    await mkdir(join(folder, 'second'))
    const added = await json('destination', 'add', 'second', './second')
    assert.equal(added.uri, new URL(`file://${encodeURI(join(folder, 'second'))}`).href)
    assert.equal((await cli('destination', 'check', 'second')).code, 0)
    assert.match((await cli('destination', 'list')).stdout, /second +local/)
    assert.deepEqual(await json('destination', 'remove', 'second'), { removed: 'second' })
    assert.equal((await cli('destination', 'check', 'second')).code, 4)
  })

  test('a backup is watched to its end, in plain lines where there is no terminal', async () => {
    const { code, stdout, stderr } = await cli('backup', 'notes', '--label', 'why=test')
    assert.equal(code, 0, stderr)
    backupId = /^backup (\S+) {2}notes → local$/m.exec(stdout)?.[1] ?? ''
    assert.ok(backupId, stdout)
    assert.match(stdout, /✓ precheck/)
    assert.match(stdout, /✓ commit/)
    assert.match(stdout, /done in .* holdfast restore/)
    assert.ok(!stdout.includes('\u001b'))
    const shown = await json('backups', 'show', 'notes:latest')
    assert.equal(shown.id, backupId)
    assert.equal(shown.encrypted, true)
    assert.deepEqual(shown.labels, { why: 'test' })
    backupUri = shown.uri
    assert.match((await cli('backups', 'list')).stdout, new RegExp(`${backupId} +notes +local`))
    assert.equal((await cli('backups', 'show', 'notes:previous')).code, 4)
    assert.equal((await cli('backups', 'show', '20200101T000000Z-full-aaaa')).code, 4)
  })

  test('programs get one JSON document per line and the operation at the end', async () => {
    const { code, stdout } = await cli('backups', 'verify', 'notes:latest', '--level', 'checksum', '--json')
    assert.equal(code, 0)
    const lines = stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line))
    assert.equal(lines.at(-1).state, 'succeeded')
    assert.equal(lines.at(-1).kind, 'verify')
    assert.equal((await json('backups', 'show', backupId)).verified.ok, true)
    const started = await json('backup', 'notes', '--no-wait')
    const watched = await cli('operation', 'watch', started.id, '--json')
    assert.equal(watched.code, 0)
    const operations = await json('operation', 'list', '--kind', 'backup')
    assert.ok(operations.some((one: { id: string }) => one.id === started.id))
    assert.equal((await json('operation', 'show', started.id)).state, 'succeeded')
    assert.match((await cli('operation', 'show', started.id)).stdout, /✓ run tool|✓ upload/)
    assert.equal((await cli('operation', 'show', 'op-none')).code, 4)
  })

  test('a restore goes beside, and never over what is there', async () => {
    const { code, stderr } = await cli('restore', backupId, '--target', 'notes', '--database', 'copy.sqlite')
    assert.equal(code, 0, stderr)
    assert.equal(sqliteDigest(join(folder, 'copy.sqlite')), sqliteDigest(join(folder, 'notes.sqlite')))
    const refused = await cli('restore', backupId, '--target', 'notes', '--database', 'copy.sqlite')
    assert.equal(refused.code, 3, refused.stderr)
    assert.match(refused.stderr, /^error restore\.target-exists/m)
  })

  test('Ctrl-C while watching leaves the operation alone; cancelling ends it', async () => {
    const worker = readRuntime(home)?.children.find(child => child.name === 'worker')
    assert.ok(worker)
    // Nothing goes on while the worker is held: the operation cannot end before we have looked away.
    process.kill(worker.pid, 'SIGSTOP')
    let id = ''
    let cancelling: ReturnType<typeof start>
    try {
      const watching = start(['backup', 'notes'], { cwd: folder, env: { HOLDFAST_HOME: home } })
      let text = ''
      watching.child.stdout?.on('data', chunk => {
        text += chunk
      })
      await eventually('it is being watched', () => (text.includes('backup ') ? true : undefined))
      const conflict = await cli('backup', 'notes')
      assert.equal(conflict.code, 5)
      assert.match(conflict.stderr, /^error operation\.conflict: .*op-/)
      watching.child.kill('SIGINT')
      const ended = await watching.ended
      assert.equal(ended.code, 130)
      id = /operation watch (\S+)/.exec(ended.stderr)?.[1] ?? ''
      assert.match(ended.stderr, new RegExp(`operation cancel ${id}`))
      assert.ok(['queued', 'running'].includes((await json('operation', 'show', id)).state))
      cancelling = start(['operation', 'cancel', id], { cwd: folder, env: { HOLDFAST_HOME: home } })
      await eventually('it was asked', async () =>
        (await json('operation', 'show', id)).state === 'cancelling' ? true : undefined,
      )
    } finally {
      process.kill(worker.pid, 'SIGCONT')
    }
    const cancelled = await cancelling.ended
    assert.equal(cancelled.code, 0, cancelled.stderr)
    const watched = await cli('operation', 'watch', id)
    assert.equal(watched.code, 7)
    assert.match(watched.stderr, /^error operation\.cancelled/m)
  })

  test('catalog rebuild and sweep answer', async () => {
    const rebuilt = await json('catalog', 'rebuild')
    assert.ok(rebuilt.found >= 2)
    assert.deepEqual(rebuilt.refused, [])
    const told = await cli('sweep', '--dry-run', '--json')
    assert.equal(told.code, 0, told.stderr)
    const swept = JSON.parse(told.stdout.trim().split('\n').at(-1) ?? '')
    assert.deepEqual([swept.kind, swept.dryRun, swept.state], ['sweep', true, 'succeeded'])
    assert.deepEqual(swept.swept.skipped, [])
    assert.equal((await cli('takeover', 'nowhere')).code, 4)
  })

  test('recovery needs only the destination and the key', async () => {
    const keys = join(folder, 'safe')
    await copyFile(join(home, 'keys/default.json'), keys)
    const told = (await cli('keys', 'fingerprint')).stdout.trim()
    up?.child.kill('SIGINT')
    await up?.ended
    up = undefined
    const root = join(home, 'backups')
    const alone = (...args: string[]) =>
      holdfast(args, { cwd: folder, env: { HOLDFAST_URL: 'http://127.0.0.1:9' } })

    const listed = await alone('recover', root, '--key', keys, '--list')
    assert.equal(listed.code, 0, listed.stderr)
    assert.match(listed.stdout, new RegExp(`${backupId} +notes .*committed`))
    const documents = JSON.parse((await alone('recover', root, '--key', keys, '--list', '--json')).stdout)
    assert.ok(documents.every((one: { trusted: boolean }) => one.trusted))

    const out = await alone('recover', backupUri, '--key', keys, '--out', 'bytes.sqlite')
    assert.equal(out.code, 0, out.stderr)
    assert.equal(sqliteDigest(join(folder, 'bytes.sqlite')), sqliteDigest(join(folder, 'notes.sqlite')))
    const over = await alone('recover', backupUri, '--key', keys, '--out', 'bytes.sqlite')
    assert.equal(over.code, 3)
    const piped = await alone('recover', root, '--backup', backupId, '--key', keys, '--out', '-')
    assert.equal(piped.code, 0, piped.stderr)
    assert.match(piped.stderr, /whole and proven/)

    const restored = await alone(
      'recover',
      root,
      '--backup',
      backupId,
      '--key',
      keys,
      '--restore-to',
      'back.sqlite',
    )
    assert.equal(restored.code, 0, restored.stderr)
    assert.equal(sqliteDigest(join(folder, 'back.sqlite')), sqliteDigest(join(folder, 'notes.sqlite')))
    const exists = await alone(
      'recover',
      root,
      '--backup',
      backupId,
      '--key',
      keys,
      '--restore-to',
      'back.sqlite',
    )
    assert.equal(exists.code, 3, exists.stderr)

    const { publicKey } = JSON.parse(await readFile(join(root, 'installation.json'), 'utf8'))
    const fingerprint = await calculateJwkThumbprint(publicKey, 'sha256')
    assert.equal(told, fingerprint)
    const ofFile = await alone('keys', 'fingerprint', '--key', keys)
    assert.ok(ofFile.stdout.startsWith(`${fingerprint}  `), ofFile.stderr)
    const believed = await alone('recover', root, '--fingerprint', fingerprint, '--list', '--json')
    assert.ok(JSON.parse(believed.stdout).every((one: { trusted: boolean }) => one.trusted))
    const noKey = await alone('recover', backupUri, '--fingerprint', fingerprint, '--out', 'x')
    assert.match(noKey.stderr, /^error key\.missing/)
    const stranger = createHash('sha256').update('somebody else').digest('base64url')
    const forged = await alone('recover', root, '--fingerprint', stranger, '--list')
    assert.equal(forged.code, 3)
    assert.match(forged.stderr, /^error manifest\.forged/)
    const untrusted = await alone('recover', backupUri, '--out', 'x')
    assert.match(untrusted.stderr, /^error manifest\.forged/)
    assert.ok(!existsSync(join(folder, 'x')))
  })

  test('recovery of a damaged backup fails and leaves nothing', async () => {
    const root = join(home, 'backups')
    const key = join(home, 'keys/default.json')
    const below = await readdir(join(root, 'notes/backups', backupId), { recursive: true })
    const name = below.find(file => file.endsWith('.tink'))
    assert.ok(name)
    const object = join(root, 'notes/backups', backupId, name)
    const bytes = await readFile(object)
    const middle = Math.floor(bytes.length / 2)
    bytes[middle] = (bytes[middle] ?? 0) ^ 1
    await writeFile(object, bytes)
    const args = ['recover', root, '--key', key, '--backup', backupId]
    for (const way of [
      ['--out', 'damaged.sqlite'],
      ['--restore-to', 'damaged.sqlite'],
    ]) {
      const { code, stderr } = await holdfast([...args, ...way], { cwd: folder })
      assert.equal(code, 1)
      assert.match(stderr, /error artifact\.corrupted/)
    }
    const left = (await readdir(folder)).filter(file => file.includes('damaged') || file.includes('.part'))
    assert.deepEqual(left, [])
  })
})
