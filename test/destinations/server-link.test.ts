/** A directory of a server whose link breaks while objects are written and read. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { chown, mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openSshHost } from '../../hosts/ssh/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import { openDestination } from '../../storage/index.ts'
import { eventually } from '../hosts/support.ts'
import { sshUserId, startSshd } from '../servers/sshd.ts'
import { codeOf, collect, inParallel, keys } from './conformance.ts'
import { send } from './conformance-uploads.ts'
import { serverRecord } from './subjects.ts'

const mib = 1024 * 1024
const server = await startSshd()
const root = join(server.home, 'shelf')
await mkdir(root)
await chown(root, sshUserId, sshUserId)
const stagingRoot = join(server.home, 'staging')
const { script, link } = openSshHost({ login: await server.login(), runAs: null, stagingRoot })
const open = () =>
  openDestination(serverRecord('db', root), {}, { shellOn: async name => ({ name, script }) })
const destination = await open()
after(async () => {
  link.close()
  await server.stop()
})

const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const cutFor = async (ms: number) => {
  await server.cut()
  await sleep(ms)
  await server.mend()
}

test('a part under way: cut for longer than the link bears, its beginning does not count, and it is sent again', async () => {
  const key = 'cut/artifact'
  const uploadId = await destination.openUpload(key)
  const first = await send(destination, key, uploadId, 1, 0, randomBytes(mib))
  const body = randomBytes(192 * mib)
  const data = join(root, '.holdfast-uploads', uploadId, 'data')
  const sending = send(destination, key, uploadId, 2, mib, body).then(
    () => undefined,
    (error: unknown) => error,
  )
  await eventually('its first bytes', async () => ((await stat(data)).size > 2 * mib ? true : undefined))
  await cutFor(40_000)
  // Twenty seconds of silence, then the link is dialled in vain: a destination that does not answer.
  const error = await sending
  assert.equal(codeOf(error), 'destination.unreachable', String(error))
  assert.ok(error instanceof HoldfastError)
  const other = await open()
  assert.deepEqual(await other.listParts(key, uploadId), [first])
  const second = await send(other, key, uploadId, 2, mib, body)
  await other.completeUpload(key, uploadId, [first, second])
  const whole = await collect(await other.get(key, { offset: mib }))
  assert.equal(hashOf(whole), hashOf(body))
  assert.deepEqual(await readdir(join(root, '.holdfast-uploads')), [])
})

test('a short cut is not noticed', async () => {
  const body = randomBytes(64 * mib)
  const uploadId = await destination.openUpload('short')
  const sending = send(destination, 'short', uploadId, 1, 0, body)
  await cutFor(5000)
  await destination.completeUpload('short', uploadId, [await sending])
  assert.equal((await destination.stat('short'))?.bytes, body.length)
})

test('an object that is read goes on at the byte where the link broke', async () => {
  const body = randomBytes(48 * mib)
  const uploadId = await destination.openUpload('long')
  await destination.completeUpload('long', uploadId, [await send(destination, 'long', uploadId, 1, 0, body)])
  const stream = await destination.get('long')
  const hash = createHash('sha256')
  let broken = false
  for await (const chunk of stream) {
    hash.update(chunk)
    if (broken) continue
    broken = true
    link.close()
    await cutFor(1000)
  }
  assert.equal(hash.digest('hex'), hashOf(body))
})

test('a list goes on behind the last key that it gave', async () => {
  const many = Array.from(
    { length: 600 },
    (_, index) => `many/${String(index).padStart(4, '0')}-${'x'.repeat(200)}`,
  )
  await inParallel(many, 8, async key => void (await destination.put(key, Buffer.from('x'))))
  const found: string[] = []
  for await (const { key } of destination.list('many/')) {
    found.push(key)
    if (found.length === 3) link.close()
  }
  assert.deepEqual(found, many)
})

test('the machine starts anew in the middle of an upload: what it lost is not believed', async () => {
  const key = 'rebooted'
  const uploadId = await destination.openUpload(key)
  const first = await send(destination, key, uploadId, 1, 0, Buffer.alloc(mib, 1))
  await server.reboot()
  assert.deepEqual(await destination.listParts(key, uploadId), [first])
  const second = await send(destination, key, uploadId, 2, mib, Buffer.alloc(mib, 2))
  await destination.completeUpload(key, uploadId, [first, second])
  assert.ok((await keys(destination.list('reb'))).includes(key))
})

test('more at a time than a connection has room for, while readers pause', async () => {
  await destination.put('paused', randomBytes(8 * mib))
  const readers = await Promise.all(Array.from({ length: 6 }, () => destination.get('paused')))
  await inParallel(
    Array.from({ length: 20 }, (_, index) => `beside/${index}`),
    20,
    async key => {
      await destination.put(key, Buffer.from(key))
    },
  )
  for (const reader of readers) assert.equal((await collect(reader)).length, 8 * mib)
})
