/** Disks that are full, read-only, not there, or lost what was written to them. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, mkdtemp, open, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { HoldfastError } from '../../model/errors.ts'
import { openDestination } from '../../storage/index.ts'
import { quotaDirectory } from '../servers/quota.ts'
import { collect, refuses } from './conformance.ts'
import { send } from './conformance-uploads.ts'
import { filesBelow, localRecord, localSubject } from './subjects.ts'

const script = new URL('./local-trouble.ts', import.meta.url).pathname

/** In a mount namespace with `mount` done first; the directory is the third argument of its shell. */
async function inNamespace(mode: string, root: string, mount: string): Promise<Record<string, unknown>> {
  const flags = process.getuid?.() === 0 ? ['--mount'] : ['--user', '--map-root-user', '--mount']
  const shell = [
    'sh',
    '-ec',
    `${mount}; exec "$1" "$2" "$3" "$4"`,
    'sh',
    process.execPath,
    script,
    mode,
    root,
  ]
  const { stdout } = await promisify(execFile)('unshare', [...flags, ...shell])
  return JSON.parse(stdout) as Record<string, unknown>
}

const said = async (act: Promise<unknown>): Promise<string> => {
  const error = await act.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  assert.ok(error instanceof HoldfastError, String(error))
  return `${error.code}: ${error.message}`
}

describe('local destination in trouble', () => {
  let root: string
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'holdfast-trouble-'))
  })
  after(async () => rm(root, { recursive: true, force: true }))

  test('a full disk: destination.full, nothing half-written, and well again with room', async () => {
    const said = await inNamespace('full', root, 'mount -t tmpfs -o size=8m,mode=700 holdfast-test "$4"')
    assert.match(
      String(said.upload),
      /^destination\.full: Writing part \d+ of "big\/artifact" .*no space is left/,
    )
    assert.match(String(said.put), /^destination\.full: Writing "fill\/\d+"/)
    assert.match(String(said.openUpload), /^(destination\.full|done)/)
    assert.deepEqual(said.left, ['.holdfast-uploads/'])
    assert.equal(said.after, 'done')
    assert.ok(Number(said.freeBytes) > 7 * 1024 * 1024, `${said.freeBytes} bytes are free in the end`)
  })

  test('a quota that is used up: destination.full, and what was begun goes', async () => {
    const path = join(root, 'quota')
    const quota = await quotaDirectory(path, 8)
    const destination = await openDestination(localRecord(path), {})
    try {
      const body = randomBytes(5 * 1024 * 1024)
      const uploadId = await destination.openUpload('a')
      await send(destination, 'a', uploadId, 1, 0, body)
      const second = await said(send(destination, 'a', uploadId, 2, body.length, body))
      assert.match(second, /^destination\.full: .*the disk quota is used up \(EDQUOT\)/)
      // Btrfs refuses names, too, by now.
      await destination.abortUpload('a', uploadId)
      assert.equal(await destination.listParts('a', uploadId), undefined)
      await quota.limit(64)
      assert.deepEqual(await filesBelow(path), ['.holdfast-uploads/'])
      const again = await destination.openUpload('a')
      const part = await send(destination, 'a', again, 1, 0, body)
      await destination.completeUpload('a', again, [part])
    } finally {
      await destination.close()
      await quota.remove()
    }
  })

  test('a read-only disk: destination.denied, reading goes on', async () => {
    const said = await inNamespace('read-only', root, 'mount -t tmpfs -o ro holdfast-test "$4"')
    for (const act of ['check', 'put', 'openUpload']) {
      assert.match(String(said[act]), /^destination\.denied: .*the file system is read-only \(EROFS\)/)
    }
    assert.equal(said.read, 'done')
  })

  test('a directory of somebody else: destination.denied', async () => {
    const theirs = join(root, 'theirs')
    await mkdir(theirs)
    await chmod(theirs, process.getuid?.() === 0 ? 0o755 : 0o555)
    await chmod(root, 0o755)
    const { stdout } = await promisify(execFile)(process.execPath, [script, 'denied', theirs])
    const said = JSON.parse(stdout) as Record<string, unknown>
    for (const act of ['check', 'put', 'openUpload']) {
      assert.match(String(said[act]), /^destination\.denied: .*permission denied \(EACCES\)/)
    }
    assert.equal(said.read, 'done')
  })

  test('a directory that is not there, or is a file: destination.missing, and it is not made', async () => {
    await writeFile(join(root, 'file'), '')
    for (const path of [join(root, 'not-mounted'), join(root, 'file'), join(root, 'file', 'below')]) {
      const destination = await openDestination(localRecord(path), {})
      await refuses(destination.check(), 'destination.missing')
      await refuses(destination.put('a', Buffer.from('x')), 'destination.missing')
      await refuses(destination.read('a'), 'destination.missing')
      await refuses(destination.stat('a'), 'destination.missing')
      await refuses(destination.get('a'), 'destination.missing')
      await refuses(destination.remove('a'), 'destination.missing')
      await refuses(destination.openUpload('a'), 'destination.missing')
      await refuses(destination.listParts('a', '0'.repeat(24)), 'destination.missing')
      await refuses(destination.abortUpload('a', '0'.repeat(24)), 'destination.missing')
      await refuses(destination.list('')[Symbol.asyncIterator]().next(), 'destination.missing')
      await refuses(destination.listUploads('')[Symbol.asyncIterator]().next(), 'destination.missing')
    }
  })

  test('a disk that goes away in the middle of an upload is missing, not "no such upload"', async () => {
    const mount = join(root, 'disk')
    await mkdir(mount)
    const destination = await openDestination(localRecord(mount), {})
    const uploadId = await destination.openUpload('a')
    const part = await send(destination, 'a', uploadId, 1, 0, Buffer.from('x'))
    await rename(mount, `${mount}-away`)
    await refuses(send(destination, 'a', uploadId, 2, 1, Buffer.from('y')), 'destination.missing')
    await refuses(destination.listParts('a', uploadId), 'destination.missing')
    await refuses(destination.completeUpload('a', uploadId, [part]), 'destination.missing')
    await rename(`${mount}-away`, mount)
    await destination.completeUpload('a', uploadId, [part])
  })

  test('keys that collide with the file system are named as such', async () => {
    const subject = await localSubject()
    const { destination } = subject
    await destination.put('a/b', Buffer.from('x'))
    await refuses(destination.put('a', Buffer.from('x')), 'destination.exists')
    await refuses(destination.put('a', Buffer.from('x'), { ifAbsent: true }), 'destination.exists')
    await refuses(destination.put('a/b/c', Buffer.from('x')), 'destination.exists')
    assert.deepEqual(await subject.kept(), ['a/', 'a/b'])
    await subject.close()
  })

  test('parts that a power cut lost are not believed after the machine started again', async () => {
    const subject = await localSubject()
    const { destination, root: home } = subject
    const key = 'power/artifact'
    const uploadId = await destination.openUpload(key)
    const bodies = ['first', 'other', 'third'].map(text => Buffer.from(text))
    for (const [index, body] of bodies.entries())
      await send(destination, key, uploadId, index + 1, index * 5, body)
    const directory = join(home, '.holdfast-uploads', uploadId)
    const journal = join(directory, 'parts')
    // As another boot would find it: the journal is whole, part 2 never reached the disk, and the last line was cut.
    const lines = await readFile(journal, 'utf8')
    await writeFile(journal, `${lines.replace(/"boot":"[^"]*"/g, '"boot":"earlier"')}\n{"number":4,"byt`)
    const data = await open(join(directory, 'data'), 'r+')
    await data.write(Buffer.alloc(5), 0, 5, 5)
    await data.close()

    const later = await subject.again()
    const there = (await later.listParts(key, uploadId)) ?? []
    assert.deepEqual(
      there.map(part => part.number),
      [1, 3],
    )
    const second = await send(later, key, uploadId, 2, 5, bodies[1] ?? Buffer.alloc(0))
    const parts = [...there, second].toSorted((a, b) => a.number - b.number)
    await later.completeUpload(key, uploadId, parts)
    assert.equal((await collect(await destination.get(key))).toString(), 'firstotherthird')
    await later.close()
    await subject.close()
  })

  test('a part whose repetition was cut short is not the earlier one', async () => {
    const subject = await localSubject()
    const { destination, root: home } = subject
    const uploadId = await destination.openUpload('cut')
    const part = await send(destination, 'cut', uploadId, 1, 0, Buffer.from('whole'))
    const journal = join(home, '.holdfast-uploads', uploadId, 'parts')
    await writeFile(journal, `${await readFile(journal, 'utf8')}\n{"begin":1}\n`)
    assert.deepEqual(await destination.listParts('cut', uploadId), [])
    await refuses(destination.completeUpload('cut', uploadId, [part]), 'destination.corrupted')
    assert.equal(await destination.stat('cut'), undefined)
    await subject.close()
  })

  test('objects and their directories are for their owner only', async () => {
    const subject = await localSubject()
    const { destination, root: home } = subject
    await destination.put('modes/small', Buffer.from('x'))
    const uploadId = await destination.openUpload('modes/large')
    await destination.completeUpload('modes/large', uploadId, [
      await send(destination, 'modes/large', uploadId, 1, 0, Buffer.from('x')),
    ])
    const mode = async (path: string) => (await stat(join(home, path))).mode & 0o777
    assert.equal(await mode('modes'), 0o700)
    assert.equal(await mode('.holdfast-uploads'), 0o700)
    assert.equal(await mode('modes/small'), 0o600)
    assert.equal(await mode('modes/large'), 0o600)
    await subject.close()
  })

  test('check sweeps what killed processes left, and only that', async () => {
    const subject = await localSubject()
    const { destination, root: home } = subject
    const open = await destination.openUpload('still/open')
    const scratch = join(home, '.holdfast-uploads')
    const long = new Date(Date.now() - 2 * 86_400_000)
    for (const name of ['put-old', 'new-old', 'put-fresh', `gone-${'a'.repeat(24)}`]) {
      await writeFile(join(scratch, name), '')
      if (name.endsWith('old')) await utimes(join(scratch, name), long, long)
    }
    await destination.check()
    const left = (await subject.kept()).filter(path => !path.includes(open))
    assert.deepEqual(left, ['.holdfast-uploads/put-fresh'])
    assert.deepEqual(await destination.listParts('still/open', open), [])
    await subject.close()
  })
})
