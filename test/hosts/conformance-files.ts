/** What every host does with files. */
import assert from 'node:assert/strict'
import { mkdir, readdir, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer, text } from 'node:stream/consumers'
import { test } from 'node:test'
import type { Subject } from './subject.ts'

export function files(subject: Subject): void {
  test(`${subject.name}: files: whole writes, ranges, lines, sizes`, async () => {
    await using place = await subject.scratch()
    const { files } = await subject.open(place.path)
    const file = join(place.path, 'files', 'a b')
    await files.ensureDirectory(join(place.path, 'files'))
    assert.equal(await files.stat(file), undefined)
    assert.equal(await files.stat(join(file, 'below')), undefined)
    assert.equal(await files.readSmall(file), undefined)
    assert.equal(await files.size(file), 0)
    await files.write(file, 'hello world')
    await files.write(file, Buffer.from('hello again'))
    assert.equal(await files.readSmall(file), 'hello again')
    assert.equal((await stat(file)).mode & 0o777, 0o600)
    assert.deepEqual(await files.list(join(place.path, 'files')), ['a b'])
    assert.deepEqual(await files.list(join(place.path, 'nowhere')), [])
    assert.deepEqual(await readdir(join(place.path, 'files')), ['a b'])
    const seen = await files.stat(file)
    assert.equal(seen?.bytes, 11)
    assert.equal(seen?.kind, 'file')
    assert.equal((await files.stat(place.path))?.kind, 'directory')
    assert.ok(Math.abs((seen?.modifiedAtMs ?? 0) - Date.now()) < 60_000)

    assert.equal(await text(files.read(file)), 'hello again')
    assert.equal(await text(files.read(file, { offset: 6 })), 'again')
    assert.equal(await text(files.read(file, { offset: 6, length: 2 })), 'ag')
    assert.equal(await text(files.read(file, { offset: 6, length: 0 })), '')
    await assert.rejects(text(files.read(file, { offset: 6, length: 9 })), { code: 'staging.changed' })
    await assert.rejects(text(files.read(join(place.path, 'missing'))), { code: 'ENOENT' })
    const big = join(place.path, 'files', 'big')
    await writeFile(big, Buffer.alloc(3_000_000, 'x'))
    assert.equal((await buffer(files.read(big, { offset: 1, length: 2_999_998 }))).length, 2_999_998)

    const log = join(place.path, 'files', 'log')
    await files.append(log, 'one')
    await files.append(log, 'two')
    // Cut short by a crash: the next line begins on its own.
    await truncate(log, 6)
    await files.append(log, 'three')
    assert.equal(await files.readSmall(log), 'one\ntw\nthree\n')
    await assert.rejects(files.append(log, 'a\nb'), { code: 'internal' })

    await files.ensureDirectory(join(place.path, 'files', 'x', 'y'))
    await files.ensureDirectory(join(place.path, 'files', 'x', 'y'))
    await files.write(join(place.path, 'files', 'x', 'y', 'z'), '12345')
    await symlink('/etc', join(place.path, 'files', 'x', 'link'))
    assert.equal(await files.size(join(place.path, 'files', 'x')), 5)
    await files.remove(join(place.path, 'files', 'x'))
    await files.remove(join(place.path, 'files', 'x'))
    assert.equal(await files.stat(join(place.path, 'files', 'x')), undefined)
    assert.ok((await files.freeBytes(join(place.path, 'not', 'yet'))) > 0)
    await assert.rejects(files.write('relative', ''), { code: 'internal' })
    await assert.rejects(files.remove('/'), { code: 'internal' })
  })

  test(`${subject.name}: staging is private, and operations are what has a directory there`, async () => {
    await using place = await subject.scratch()
    const root = join(place.path, 'staging')
    const host = await subject.open(root)
    await host.files.ensureDirectory(host.stagingDir('b'))
    for (const name of ['', 'jobs', 'data']) assert.equal((await stat(join(root, name))).mode & 0o777, 0o700)
    await host.run(
      { operation: 'a', step: 's', token: 't' },
      { stages: [{ argv: ['sh', '-c', 'mkdir -p d; chmod 500 d'] }] },
    )
    // What Holdfast did not make is no operation.
    await writeFile(join(root, 'data', 'c'), '')
    await mkdir(join(root, 'data', 'not ours'))
    assert.deepEqual(await host.operations(), ['a', 'b'])
    await host.removeOperation('a')
    assert.deepEqual(await host.operations(), ['b'])
    assert.throws(() => host.stagingDir('../b'), { code: 'request.invalid' })
    await symlink('/etc', join(place.path, 'jobs'))
    await assert.rejects(
      async () => {
        const looked = await subject.open(place.path)
        await looked.files.ensureDirectory(looked.stagingDir('x'))
      },
      { code: 'staging.permission' },
    )
  })
}
