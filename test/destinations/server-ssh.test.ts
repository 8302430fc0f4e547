/** A directory of a database server, over SSH: by a login of its own, and as another user by sudo. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, chown, mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { openSshHost, type SshHost } from '../../hosts/ssh/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { sshUserId, startSshd, type TestSshd } from '../servers/sshd.ts'
import { collect, conformance, keys, refuses } from './conformance.ts'
import { send } from './conformance-uploads.ts'
import { localRecord, serverRecord, serverSubject } from './subjects.ts'

const run = promisify(execFile)
// A profile that greets must not end up in anybody's objects.
const server = await startSshd({ sudo: true, greeting: 'Welcome to the database host.' })
const opened: SshHost[] = []
after(async () => {
  for (const { link } of opened) link.close()
  await server.stop()
})

async function hostAs(runAs: string | null, of: TestSshd = server): Promise<SshHost> {
  const made = openSshHost({ login: await of.login(), runAs, stagingRoot: join(of.home, 'staging') })
  opened.push(made)
  return made
}
const on = async (host: SshHost, path: string): Promise<Destination> =>
  await openDestination(
    serverRecord('db', path),
    {},
    {
      shellOn: async name => ({ name, script: host.script }),
    },
  )

conformance('server directory over SSH', async () => {
  const { script } = await hostAs(null)
  return await serverSubject({ name: 'db', script }, { uid: sshUserId, gid: sshUserId })
})

describe('a server directory over SSH', () => {
  let root: string
  let host: SshHost
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'holdfast-server-'))
    await chmod(root, 0o755)
    host = await hostAs(null)
  })
  after(async () => rm(root, { recursive: true, force: true }))

  const theirs = async (name: string, owner = sshUserId) => {
    const path = join(root, name)
    await mkdir(path)
    await chown(path, owner, owner)
    return path
  }
  const says = async (act: Promise<unknown>, pattern: RegExp) =>
    await assert.rejects(act, error => {
      assert.ok(error instanceof HoldfastError, String(error))
      assert.match(`${error.code}: ${error.message}`, pattern)
      return true
    })

  test('what it holds belongs to the user everything runs as, and is for nobody else', async () => {
    const uid = Number((await run('id', ['-u', 'postgres'])).stdout)
    const path = await theirs('of postgres', uid)
    const destination = await on(await hostAs('postgres'), path)
    await destination.check()
    await destination.put('a/b', Buffer.from('x'))
    const uploadId = await destination.openUpload('a/c')
    await destination.completeUpload('a/c', uploadId, [
      await send(destination, 'a/c', uploadId, 1, 0, Buffer.from('y')),
    ])
    for (const [name, mode] of Object.entries({ a: 0o40700, 'a/b': 0o100600, 'a/c': 0o100600 })) {
      const found = await stat(join(path, name))
      assert.deepEqual([found.uid, found.mode.toString(8)], [uid, mode.toString(8)], name)
    }
    await says((await on(host, path)).check(), /^destination\.denied: .*permission denied \(EACCES\)/)
  })

  test('is read and gone on with as a directory from that machine, and the other way round', async () => {
    const path = await theirs('both')
    const there = await on(host, path)
    const here = await openDestination(localRecord(path), {})
    const uploadId = await there.openUpload('artifact')
    const first = await send(there, 'artifact', uploadId, 1, 0, Buffer.from('first '))
    assert.deepEqual(await here.listParts('artifact', uploadId), [first])
    const second = await send(here, 'artifact', uploadId, 2, 6, Buffer.from('second'))
    // Here it is root's, as is what it appends to.
    await chown(join(path, '.holdfast-uploads', uploadId, 'data'), sshUserId, sshUserId)
    assert.deepEqual(await there.listParts('artifact', uploadId), [first, second])
    await there.completeUpload('artifact', uploadId, [first, second])
    assert.equal((await collect(await here.get('artifact'))).toString(), 'first second')
    assert.deepEqual(await keys(here.list('')), ['artifact'])
  })

  test('parts of another boot are read again before they count', async () => {
    const path = await theirs('rebooted')
    const destination = await on(host, path)
    const uploadId = await destination.openUpload('artifact')
    const parts = [
      await send(destination, 'artifact', uploadId, 1, 0, Buffer.alloc(100_000, 1)),
      await send(destination, 'artifact', uploadId, 2, 100_000, Buffer.alloc(70_000, 2)),
      await send(destination, 'artifact', uploadId, 3, 170_000, Buffer.alloc(10, 3)),
    ]
    await server.reboot()
    // What a power cut took away.
    const data = join(path, '.holdfast-uploads', uploadId, 'data')
    await run('dd', ['if=/dev/zero', `of=${data}`, 'bs=1', 'seek=120000', 'count=1000', 'conv=notrunc'])
    assert.deepEqual(await destination.listParts('artifact', uploadId), [parts[0], parts[2]])
    await refuses(destination.completeUpload('artifact', uploadId, parts), 'destination.corrupted')
    const again = await send(destination, 'artifact', uploadId, 2, 100_000, Buffer.alloc(70_000, 2))
    await destination.completeUpload('artifact', uploadId, [parts[0]!, again, parts[2]!])
    assert.equal((await destination.stat('artifact'))?.bytes, 170_010)
  })

  test('a full disk: destination.full, nothing half-written, and well again with room', async () => {
    const disk = await server.disk(8192)
    await chown(disk, sshUserId, sshUserId)
    const destination = await on(host, disk)
    const uploadId = await destination.openUpload('big')
    const part = send(destination, 'big', uploadId, 1, 0, Buffer.alloc(9 * 1024 * 1024))
    await says(part, /^destination\.full: Writing part 1 of "big" .*no space is left/)
    assert.deepEqual(await destination.listParts('big', uploadId), [])
    await destination.abortUpload('big', uploadId)
    await says(destination.put('big', Buffer.alloc(9 * 1024 * 1024)), /^destination\.full: Writing "big"/)
    // Not a byte more: even what an upload says of itself finds no room.
    await run('dd', ['if=/dev/zero', `of=${join(disk, 'filler')}`, 'bs=64k']).catch(() => {})
    await says(destination.openUpload('big'), /^destination\.full: Opening an upload of "big"/)
    await rm(join(disk, 'filler'))
    assert.deepEqual(await readdir(disk), ['.holdfast-uploads'])
    assert.deepEqual(await readdir(join(disk, '.holdfast-uploads')), [])
    await destination.put('small', Buffer.alloc(1024 * 1024))
    await server.removeDisk(disk)
  })

  test('a read-only disk: destination.denied, reading goes on', async () => {
    const disk = await server.disk(1024)
    await chown(disk, sshUserId, sshUserId)
    const destination = await on(host, disk)
    await destination.put('a', Buffer.from('x'))
    await run('mount', ['-o', 'remount,ro', disk])
    for (const act of [
      () => destination.check(),
      () => destination.put('b', Buffer.from('x')),
      () => destination.openUpload('b'),
    ]) {
      await says(act(), /^destination\.denied: .*the file system is read-only \(EROFS\)/)
    }
    assert.equal(Buffer.from((await destination.read('a')) ?? []).toString(), 'x')
    await server.removeDisk(disk)
  })

  test('a directory that is not there, or is a file: destination.missing, and it is not made', async () => {
    await writeFile(join(root, 'file'), '')
    for (const path of [join(root, 'not-mounted'), join(root, 'file'), join(root, 'file', 'below')]) {
      const destination = await on(host, path)
      await refuses(destination.check(), 'destination.missing')
      await refuses(destination.put('a', Buffer.from('x')), 'destination.missing')
      await refuses(destination.read('a'), 'destination.missing')
      await refuses(destination.stat('a'), 'destination.missing')
      await refuses(destination.get('a'), 'destination.missing')
      await refuses(destination.remove('a'), 'destination.missing')
      await refuses(destination.listParts('a', '0'.repeat(24)), 'destination.missing')
      await refuses(destination.abortUpload('a', '0'.repeat(24)), 'destination.missing')
      await refuses(destination.list('')[Symbol.asyncIterator]().next(), 'destination.missing')
      await refuses(destination.listUploads('')[Symbol.asyncIterator]().next(), 'destination.missing')
    }
  })

  test('a disk that goes away in the middle of an upload is missing, not "no such upload"', async () => {
    const path = await theirs('disk')
    const destination = await on(host, path)
    const uploadId = await destination.openUpload('a')
    const part = await send(destination, 'a', uploadId, 1, 0, Buffer.from('x'))
    await rename(path, `${path}-away`)
    await refuses(send(destination, 'a', uploadId, 2, 1, Buffer.from('y')), 'destination.missing')
    await refuses(destination.completeUpload('a', uploadId, [part]), 'destination.missing')
    await rename(`${path}-away`, path)
    await destination.completeUpload('a', uploadId, [part])
  })

  test('keys that collide with the file system are named as such', async () => {
    const path = await theirs('collisions')
    const destination = await on(host, path)
    await destination.put('a/b', Buffer.from('x'))
    await refuses(destination.put('a', Buffer.from('x')), 'destination.exists')
    await refuses(destination.put('a', Buffer.from('x'), { ifAbsent: true }), 'destination.exists')
    await refuses(destination.put('a/b/c', Buffer.from('x')), 'destination.exists')
    assert.deepEqual(await keys(destination.list('')), ['a/b'])
  })

  test('what others left there is not listed when it can be no object', async () => {
    const path = await theirs('others')
    const destination = await on(host, path)
    await destination.put('ours', Buffer.from('x'))
    await writeFile(join(path, 'two\nlines'), '')
    await mkdir(join(path, 'two\nlines of a directory'))
    await writeFile(join(path, 'two\nlines of a directory', 'x'), '')
    await run('ln', ['-s', '/etc/passwd', join(path, 'link')])
    await run('mkfifo', [join(path, 'pipe')])
    assert.deepEqual(await keys(destination.list('')), ['ours'])
    assert.equal(await destination.read('pipe'), undefined)
    await refuses(destination.get('pipe'), 'destination.object-missing')
  })

  test('sudo that refuses says what it needs', async () => {
    const strict = await startSshd()
    try {
      const refused = await on(await hostAs('postgres', strict), root)
      await refuses(refused.check(), 'host.sudo')
    } finally {
      await strict.stop()
    }
  })
})
